"""`load_cifar10`: which pictures it takes, what it says, and that they behave as torchvision's CIFAR10."""

import hashlib
import io
import pickle
import struct
import subprocess
import sys
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import ToTensor

import course_utils
from course_utils.data import cifar10, download, folder, standin
from course_utils.data.standin import CLASSES

PER_FILE = 20


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2's `str`, as the official files do: torchvision reads no others."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_python2_string(self, value: str | bytes) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_python2_string


def python2_pickle(value: object) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small archive made as the official one is, and torchvision and the course told its MD5s."""
    names = [entry[0] for entry in torchvision.datasets.CIFAR10.train_list] + ["test_batch"]
    files = {"batches.meta": python2_pickle({"label_names": list(CLASSES)})}
    for number, name in enumerate(names):
        planes = np.full((PER_FILE, 3, 32, 32), number, np.uint8)
        planes[:, 0], planes[:, 1, 5, 7] = 200, 99
        labels = [(n * 7 + number) % 10 for n in range(PER_FILE)]
        files[name] = python2_pickle({"data": planes.reshape(PER_FILE, 3072), "labels": labels})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    theirs = torchvision.datasets.CIFAR10
    monkeypatch.setattr(theirs, "train_list", [[name, md5[name]] for name in names[:5]])
    monkeypatch.setattr(theirs, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(theirs, "meta", {**theirs.meta, "md5": md5["batches.meta"]})
    content = buffer.getvalue()
    monkeypatch.setattr(download, "SIZE", len(content))
    monkeypatch.setattr(download, "MD5", hashlib.md5(content).hexdigest())
    return content


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away COURSE_DATA, the real data folder, and every way to the internet."""

    def unreachable(request, *, timeout):
        raise urllib.error.URLError("a test tried to use the network")

    monkeypatch.delenv("COURSE_DATA", raising=False)
    monkeypatch.setattr(folder, "_default_folder", lambda root: tmp_path / "default")
    monkeypatch.setattr(cifar10, "MIRRORS", ("http://127.0.0.1:9/cifar-10-python.tar.gz",))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)


def unpack(content: bytes, into: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python before 3.11.4 has none
        tar.extractall(into)


def save_pictures(folder: Path, per_class: dict[str, int]) -> None:
    for split, count in per_class.items():
        for label, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for n in range(count):
                Image.new("RGB", (32, 32), (label, n, 0)).save(folder / split / name / f"{n}.png")


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-py"])
def test_unpacked_official_files_are_read(tmp_path, archive, capsys, inside):
    unpack(archive, tmp_path)
    train, test = course_utils.load_cifar10(folder=tmp_path / inside)
    assert (len(train), len(test), train.source) == (100, 20, "CIFAR-10")
    assert capsys.readouterr().out == "Data: CIFAR-10, 100 for training and 20 for testing.\n"


def test_the_official_pictures_are_the_ones_torchvision_gives(tmp_path, archive):
    unpack(archive, tmp_path)
    for ours, train in zip(course_utils.load_cifar10(folder=tmp_path), (True, False), strict=True):
        theirs = torchvision.datasets.CIFAR10(tmp_path, train=train)
        assert np.array_equal(ours.data, theirs.data)
        assert ours.data.flags.c_contiguous
        for name in ("targets", "classes", "class_to_idx", "train"):
            assert getattr(ours, name) == getattr(theirs, name)
        assert (ours[3][0].tobytes(), ours[3][1]) == (theirs[3][0].tobytes(), theirs[3][1])


def test_an_archive_without_its_files_is_unpacked(tmp_path, archive):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(archive)
    assert len(course_utils.load_cifar10(folder=tmp_path, download=False)[0]) == 100
    assert {path.name for path in tmp_path.iterdir()} == {"cifar-10-python.tar.gz", "cifar-10-batches-py"}


def test_half_unpacked_files_are_mended_from_the_archive(tmp_path, archive):
    unpack(archive, tmp_path)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(archive)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"half")
    (tmp_path / "cifar-10-batches-py" / "mine.txt").write_text("keep me")
    assert len(course_utils.load_cifar10(folder=tmp_path)[0]) == 100
    assert (tmp_path / "cifar-10-batches-py" / "mine.txt").exists()


def test_missing_files_are_downloaded_into_the_default_folder(tmp_path, archive, monkeypatch, capsys):
    def answer(request, *, timeout):
        reply = io.BytesIO(archive)
        reply.status, reply.headers = 200, {"Content-Length": str(len(archive))}
        return reply

    monkeypatch.setattr("urllib.request.urlopen", answer)
    train, _ = course_utils.load_cifar10(train_size=10)
    assert (len(train), train.source) == (10, "CIFAR-10")
    assert (tmp_path / "default" / "cifar-10-batches-py" / "test_batch").exists()
    assert "downloading 170 MB, once." in capsys.readouterr().out


def test_a_failed_download_gives_the_stand_in_and_says_so(tmp_path, capsys):
    train, test = course_utils.load_cifar10(train_size=30, test_size=20)
    assert (len(train), len(test)) == (30, 20)
    assert train.source == test.source == "STAND-IN pictures (generated)"
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        "Data: STAND-IN pictures (generated), 30 for training and 20 for testing; "
        "the real ones are not here: there is no network."
    )


def test_a_data_folder_that_cannot_be_used_is_named_as_the_reason(tmp_path, capsys):
    (tmp_path / "default").write_text("a file where the folder should be")
    course_utils.load_cifar10(train_size=10, test_size=10)
    assert "the data folder cannot be used (" in capsys.readouterr().out


def test_without_download_the_network_is_not_touched(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("urllib.request.urlopen", None)
    course_utils.load_cifar10(download=False, train_size=10, test_size=10)
    assert "downloading is switched off." in capsys.readouterr().out
    assert not (tmp_path / "default").exists()


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_the_stand_in_can_be_forced_and_its_line_names_no_path(tmp_path, archive, monkeypatch, capsys, way):
    unpack(archive, tmp_path / "default")
    monkeypatch.setattr("urllib.request.urlopen", None)
    monkeypatch.setitem(standin.SIZES, True, 40)
    if way == "environment":
        monkeypatch.setenv("COURSE_DATA", "standin")
    train, _ = course_utils.load_cifar10(test_size=100, folder="standin" if way == "argument" else None)
    assert len(train) == 40
    name = "folder" if way == "argument" else "COURSE_DATA"
    assert capsys.readouterr().out == (
        "Data: STAND-IN pictures (generated), 40 for training and 100 for testing; "
        f"{name}=standin asks for them.\n"
    )


def test_the_argument_goes_before_the_environment(tmp_path, archive, monkeypatch):
    unpack(archive, tmp_path)
    monkeypatch.setenv("COURSE_DATA", "standin")
    assert course_utils.load_cifar10(folder=tmp_path)[0].source == "CIFAR-10"
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert course_utils.load_cifar10()[0].source == "CIFAR-10"


def test_a_folder_of_pictures_is_used_and_announced(tmp_path, capsys):
    save_pictures(tmp_path, {"train": 3, "test": 1})
    train, _ = course_utils.load_cifar10(folder=tmp_path, train_size=20)
    assert train.source == "pictures from a folder"
    assert capsys.readouterr().out == (
        "Data: pictures from a folder, 20 of 30 for training and 10 for testing.\n"
    )


def test_only_the_pictures_that_are_asked_for_are_read(tmp_path):
    save_pictures(tmp_path, {"train": 3, "test": 1})
    (tmp_path / "train/cat/2.png").write_bytes(b"damaged")
    assert len(course_utils.load_cifar10(folder=tmp_path, train_size=20)[0]) == 20
    with pytest.raises(ValueError, match="Damaged"):
        course_utils.load_cifar10(folder=tmp_path)


def test_official_files_go_before_pictures(tmp_path, archive):
    unpack(archive, tmp_path)
    save_pictures(tmp_path, {"train": 1, "test": 1})
    assert course_utils.load_cifar10(folder=tmp_path)[0].source == "CIFAR-10"


def test_a_faulty_folder_of_pictures_is_an_error_not_a_stand_in(tmp_path):
    save_pictures(tmp_path, {"train": 1})
    with pytest.raises(ValueError, match="no folder for"):
        course_utils.load_cifar10(folder=tmp_path)


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_a_folder_that_does_not_exist_is_an_error(tmp_path, monkeypatch, way):
    wrong = tmp_path / "tpyo"
    monkeypatch.setenv("COURSE_DATA", str(wrong))
    name = "folder" if way == "argument" else "COURSE_DATA"
    with pytest.raises(FileNotFoundError, match=f"^{name} names a folder that does not exist: .*tpyo"):
        course_utils.load_cifar10(folder=wrong if way == "argument" else None)
    with pytest.raises(FileNotFoundError, match=r"^folder names .* not exist: '~nobody-at-all'"):
        course_utils.load_cifar10(folder="~nobody-at-all")


def test_subsets_are_balanced_repeatable_and_in_the_old_order(tmp_path, archive):
    unpack(archive, tmp_path)
    everything, _ = course_utils.load_cifar10(folder=tmp_path)
    some, few_tests = course_utils.load_cifar10(folder=tmp_path, train_size=35, test_size=10)
    assert sorted(np.bincount(some.targets)) == [3] * 5 + [4] * 5
    assert sorted(few_tests.targets) == list(range(10))
    rows = [int(np.flatnonzero(np.array(everything.targets) == c)[0]) for c in range(10)]
    assert [everything.targets[row] for row in sorted(rows)] == some.targets[:10]
    again, _ = course_utils.load_cifar10(folder=tmp_path, train_size=35)
    assert np.array_equal(some.data, again.data)
    assert some.targets == again.targets


def test_a_subset_of_uneven_classes_still_has_the_asked_size():
    split = (np.arange(12, dtype=np.uint8), [0] * 9 + [1, 2, 2])
    data, targets = cifar10._some(split, 6)
    assert targets == [0, 0, 0, 1, 2, 2]
    assert data.tolist() == [0, 1, 2, 9, 10, 11]


def test_a_size_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        course_utils.load_cifar10(folder="standin", train_size=0)


@pytest.mark.slow
def test_transforms_and_a_loader_with_workers(tmp_path):
    train, _ = course_utils.load_cifar10(ToTensor(), folder="standin", train_size=40, test_size=10)
    train.target_transform = float
    assert isinstance(train[0][1], float)
    loader = torch.utils.data.DataLoader(train, batch_size=20, num_workers=1, multiprocessing_context="spawn")
    pictures, labels = next(iter(loader))
    assert pictures.shape == (20, 3, 32, 32)
    assert labels.tolist() == train.targets[:20]
    assert torch.equal(pictures[0], torch.from_numpy(train.data[0]).permute(2, 0, 1) / 255)


def test_a_printed_dataset_shows_its_source_and_no_path(tmp_path):
    save_pictures(tmp_path, {"train": 1, "test": 1})
    text = str(course_utils.load_cifar10(folder=tmp_path)[1])
    assert "Number of datapoints: 10" in text
    assert "Source: pictures from a folder" in text
    assert str(tmp_path) not in text


def test_the_default_folder_is_the_clones_or_the_users_and_never_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.delenv("COURSE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert folder.data_folder() == Path(course_utils.__file__).resolve().parents[1] / "data"
    for variable in ("XDG_CACHE_HOME", "HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    installed = folder.data_folder(root=tmp_path / "site-packages")
    assert installed.name == "pytorch-gpu-course"
    assert installed.is_relative_to(tmp_path / "home")


def test_a_torchvision_that_does_not_fit_torch_is_one_clear_line(tmp_path):
    (tmp_path / "torchvision").mkdir()
    broken = 'raise RuntimeError("operator torchvision::nms does not exist")'
    (tmp_path / "torchvision" / "__init__.py").write_text(broken, encoding="utf-8")
    code = "import course_utils; course_utils.load_cifar10(folder='standin')"
    paths = [str(tmp_path), str(Path(course_utils.__file__).parents[1])]
    program = f"import sys; sys.path[:0] = {paths!r}; {code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: torchvision cannot be loaded (operator torchvision::nms does not")
    assert "same --index-url" in last
