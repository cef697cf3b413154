"""A folder of pictures instead of CIFAR-10: checked, read in the official order, kept for the next time."""

import os
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


def test_pictures_and_labels_come_in_the_official_order_the_classes_in_turn(folder):
    (data, targets), (test_data, test_targets) = pictures.read_pictures(folder)
    assert (data.shape, data.dtype) == ((20, 32, 32, 3), np.uint8)
    assert targets == list(range(10)) * 2
    assert data[:, 0, 0, 0].tolist() == [10 * n for n in range(10)] + [10 * n + 1 for n in range(10)]
    assert test_targets == list(range(10))
    assert test_data[:, 31, 31, 2].tolist() == [10 * n for n in range(10)]


def test_a_picture_changed_without_changing_its_size_is_noticed(folder):
    file = folder / "train" / "cat" / "c.bmp"
    save(file, 50)
    before = file.stat()
    pictures.read_pictures(folder)
    save(file, 200)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    assert file.stat().st_size == before.st_size
    assert 200 in pictures.read_pictures(folder)[0][0]


def test_the_pixels_are_kept_and_used_the_next_time(folder, monkeypatch):
    first = pictures.read_pictures(folder)
    monkeypatch.setattr(pictures, "_decode", None)
    second = pictures.read_pictures(folder)
    assert all(np.array_equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("change", ["added", "replaced", "removed", "broken cache"])
def test_a_change_is_noticed(folder, change):
    pictures.read_pictures(folder)
    if change == "added":
        save(folder / "train" / "cat" / "c.png", 200)
    elif change == "replaced":
        save(folder / "train" / "cat" / "b.png", 200, mode="RGBA")
    elif change == "removed":
        (folder / "train" / "cat" / "b.png").unlink()
    else:
        (folder / "train.npz").write_bytes(b"PK\x03\x04 not an archive")
    data, targets = pictures.read_pictures(folder)[0]
    assert len(data) == len(targets) == 20 + {"added": 1, "removed": -1}.get(change, 0)
    assert (200 in data) == (change in ("added", "replaced"))


def test_a_folder_that_cannot_be_written_is_read_all_the_same(folder, monkeypatch, capsys):
    def refuse(self, *args, **options):
        if args and "w" in args[0]:
            raise PermissionError(13, "Permission denied")
        return real_open(self, *args, **options)

    real_open = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    assert len(pictures.read_pictures(folder)[0][1]) == 20
    assert "cannot be written" in capsys.readouterr().out


def test_damaged_pictures_are_named_and_nothing_is_kept(folder):
    whole = (folder / "train" / "deer" / "a.png").read_bytes()
    (folder / "train" / "deer" / "a.png").write_bytes(whole[: len(whole) // 2])
    (folder / "train" / "cat" / "b.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"replace or delete them: train/deer/a\.png, train/cat/b\.png\.$"):
        pictures.read_pictures(folder)
    assert not (folder / "train.npz").exists()


def test_many_damaged_pictures_are_counted(folder):
    for name in CLASSES:
        (folder / "train" / name / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="and 5 more"):
        pictures.read_pictures(folder)


def test_other_sizes_and_modes_are_converted_and_said(folder, capsys):
    save(folder / "train" / "cat" / "a.png", 77, size=(64, 48))
    save(folder / "train" / "dog" / "a.png", 78, mode="L")
    data, _ = pictures.read_pictures(folder)[0]
    assert (data[3] == 77).all()
    assert (data[5] == 78).all()
    assert capsys.readouterr().out == "Note: resized to 32 x 32 pixels: 1 of the train pictures.\n"


def test_capitals_and_hidden_folders_do_not_matter(folder):
    (folder / "train" / "cat").rename(folder / "train" / "tmp")
    (folder / "train" / "tmp").rename(folder / "train" / "Cat")
    (folder / "train" / "__MACOSX").mkdir()
    (folder / "train" / ".thumbnails").mkdir()
    (folder / "train" / "notes.txt").write_text("no picture")
    (folder / "train" / "dog" / "Thumbs.db").write_bytes(b"no picture")
    (folder / "train" / "dog" / "a.png").rename(folder / "train" / "dog" / "a.PNG")
    assert pictures.read_pictures(folder)[0][1] == list(range(10)) * 2


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
        pictures.read_pictures(folder)
    assert split in str(caught.value)
    assert "\n" not in str(caught.value)
