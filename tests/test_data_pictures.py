"""A folder of pictures instead of CIFAR-10: checked, and read in the official order."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from course_utils.data import pictures
from course_utils.data.standin import CLASSES


def save(path: Path, level: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two training pictures and a test picture of each class, grey levels 10 * label (+ 1)."""
    for label, name in reversed(list(enumerate(CLASSES))):
        save(tmp_path / "train" / name / "b.png", 10 * label + 1)
        save(tmp_path / "train" / name / "a.png", 10 * label)
        save(tmp_path / "test" / name / "only.png", 10 * label)
    return tmp_path


def read(split: Path) -> tuple[np.ndarray, list[int]]:
    files, labels = pictures.list_pictures(split)
    return pictures.decode(files), labels


def test_pictures_and_labels_come_in_the_official_order_the_classes_in_turn(folder):
    data, targets = read(folder / "train")
    test_data, test_targets = read(folder / "test")
    assert (data.shape, data.dtype) == ((20, 32, 32, 3), np.uint8)
    assert targets == list(range(10)) * 2
    assert data[:, 0, 0, 0].tolist() == [10 * n for n in range(10)] + [10 * n + 1 for n in range(10)]
    assert test_targets == list(range(10))
    assert test_data[:, 31, 31, 2].tolist() == [10 * n for n in range(10)]


def test_damaged_pictures_are_named(folder):
    whole = (folder / "train" / "deer" / "a.png").read_bytes()
    (folder / "train" / "deer" / "a.png").write_bytes(whole[: len(whole) // 2])
    (folder / "train" / "cat" / "b.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"replace or delete them: train/deer/a\.png, train/cat/b\.png\.$"):
        read(folder / "train")


def test_many_damaged_pictures_are_counted(folder):
    for name in CLASSES:
        (folder / "train" / name / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="and 5 more"):
        read(folder / "train")


def test_other_sizes_and_modes_are_converted_and_said(folder, capsys):
    save(folder / "train" / "cat" / "a.png", 77, size=(64, 48))
    save(folder / "train" / "dog" / "a.png", 78, mode="L")
    data, _ = read(folder / "train")
    assert (data[3] == 77).all()
    assert (data[5] == 78).all()
    assert capsys.readouterr().out == "Note: resized to 32 x 32 pixels: 1 of the train pictures.\n"


def test_capitals_and_hidden_folders_do_not_matter(folder):
    (folder / "train" / "cat").rename(folder / "train" / "tmp")
    (folder / "train" / "tmp").rename(folder / "train" / "Cat")
    (folder / "train" / "__MACOSX").mkdir()
    (folder / "train" / ".thumbnails").mkdir()
    (folder / "train" / "notes.txt").write_text("no picture")
    for name in ("Thumbs.db", "._a.png"):  # Windows' and macOS'
        (folder / "train" / "dog" / name).write_bytes(b"no picture")
    (folder / "train" / "dog" / "a.png").rename(folder / "train" / "dog" / "a.PNG")
    assert read(folder / "train")[1] == list(range(10)) * 2


@pytest.mark.parametrize(
    ("split", "name", "words"),
    [
        ("test", "", "no folder for: airplane, automobile"),
        ("train", "ship", "no folder for: ship"),
        ("train", "ship/*", "there is no picture"),
        ("train", "plane+", "not CIFAR-10 classes: plane"),
    ],
)
def test_a_wrong_folder_is_refused_with_one_line(folder, split, name, words):
    if name.endswith("+"):
        (folder / split / name[:-1]).mkdir()
    elif name.endswith("*"):
        for file in (folder / split).glob(name):
            file.unlink()
    else:
        shutil.rmtree(folder / split / name)
    with pytest.raises(ValueError, match=words) as caught:
        read(folder / split)
    assert split in str(caught.value)
    assert "\n" not in str(caught.value)
