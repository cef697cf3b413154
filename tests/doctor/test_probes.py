"""How facts are collected: from other programs with a time limit, and without touching the asking process."""

import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import util
from pathlib import Path
from textwrap import dedent

import pytest

import course_utils
from course_utils.data.folder import ARCHIVE, BATCHES, data_folder
from course_utils.machine.doctor import inspection
from course_utils.machine.doctor.facts import Driver
from course_utils.machine.doctor.rules import judge
from course_utils.machine.environment import Environment

from . import machines

ACTIVE = Environment("active", Path(sys.prefix))
SITE = Path(util.find_spec("torch").origin).parents[1]
CUDA_BUILD = (SITE / "torch/lib/libc10_cuda.so").is_file()
posix = pytest.mark.skipif(
    os.name != "posix", reason="fake programs are shell scripts; run it on Linux or macOS"
)

# what a fake PyTorch does, beyond importing; NO_KERNEL and others are put in
FAKE_TORCH = """\
    import warnings
    __version__ = "9.9.0+cu132"
    class Number:
        def __matmul__(self, other): return self
        def __add__(self, other): return self
        def sum(self): return self
        def item(self): return self.value
    def ones(count, device=None):
        if device == ("cuda", 1):
            raise RuntimeError({kernel!r} + "\\nCUDA kernel errors might be asynchronously reported")
        number = Number()
        number.value = count if device is None else 2 * count
        return number
    def device(kind, number): return (kind, number)
    class _C:
        _cuda_getDriverVersion = staticmethod(lambda: 12080)
    class version:
        cuda, hip = {build}
    class Card:
        name, major, minor, total_memory, uuid = "Fake GPU", 8, 6, 2**30, "uuid"
    def init(): raise RuntimeError({no_driver!r})
    class cuda:
        get_arch_list = staticmethod(lambda: [{arch!r}])
        device_count = staticmethod(lambda: {count})
        get_device_properties = staticmethod(lambda number: Card)
        init = staticmethod(init)
    class accelerator:
        synchronize = staticmethod(lambda number: None)
        @staticmethod
        def current_accelerator(check_available):
            if {count}:
                found = type("found", (), dict(type="cuda"))
                return found
            warnings.warn({too_old!r})
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., str]:
    """Make an executable shell script."""

    def make(script: str, name: str = "python") -> str:
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{dedent(script)}")
        file.chmod(0o755)
        return str(file)

    return make


@pytest.fixture
def fake_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a PyTorch with `count` GPUs, and a torchvision, before the real ones."""

    def make(count: int, build: str = "'13.2', None", arch: str = "sm_80") -> None:
        texts = {"kernel": machines.NO_KERNEL, "no_driver": machines.NO_DRIVER, "too_old": machines.TOO_OLD}
        (tmp_path / "torch").mkdir()
        (tmp_path / "torch/__init__.py").write_text(
            dedent(FAKE_TORCH).format(count=count, build=build, arch=arch, **texts)
        )
        (tmp_path / "torchvision.py").write_text("__version__ = '9.9.0'")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


def strings_of(pattern: str, texts: list[bytes]) -> Iterator[bool]:
    """Whether each text is in the first file that fits the pattern."""
    with (
        next(SITE.glob(pattern)).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        yield from [content.find(text) >= 0 for text in texts]


@pytest.mark.skipif(
    not CUDA_BUILD, reason="needs a PyTorch built for CUDA on Linux: pip install -r requirements.txt"
)
@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("torch/lib/libc10_cuda.so", [machines.NO_DRIVER, "CUDA initialization: "]),
        ("torch/lib/libc10_cuda.so", ["The NVIDIA driver on your system is too old (found version "]),
        ("nvidia/cu*/lib/libcudart.so*", [machines.NO_KERNEL.removeprefix("CUDA error: "), machines.STUB]),
        ("torch/cuda/__init__.py", [machines.NO_CUDA]),
        ("torchvision/extension.py", [machines.MAJORS]),
        ("torch/lib/libc10.so", ["Unrecognized key '", "' in Accelerator allocator config."]),
        ("gpustat/nvml.py", ["_nvmlGetFunctionPointer"]),
    ],
)
def test_the_texts_are_those_of_the_installed_libraries(pattern: str, texts: list[str]) -> None:
    assert all(strings_of(pattern, [text.encode() for text in texts]))


def test_torchvision_of_another_build_says_what_the_rules_expect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real error: torchvision's Python files without the library that does not load with this PyTorch."""
    for source in (SITE / "torchvision").rglob("*.py"):
        link = tmp_path / source.relative_to(SITE)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.write_bytes(source.read_bytes())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = inspection.ask_interpreter(sys.executable)
    assert not found.vision
    assert found.errors["torchvision_import"] == f"RuntimeError: {machines.NMS}"
    assert found.computes
    assert not found.absent
    assert not found.end


def test_gpus_are_tried_one_by_one(fake_torch: Callable[..., None]) -> None:
    fake_torch(2)
    found = inspection.ask_interpreter(sys.executable)
    assert [gpu.name for gpu in found.gpus] == ["Fake GPU"] * 2
    assert [gpu.error for gpu in found.gpus] == ["", f"RuntimeError: {machines.NO_KERNEL}"]
    assert (found.gpus[0].capability, found.gpus[0].memory, found.gpus[0].uuid) == ((8, 6), 2**30, "uuid")
    assert (found.accelerator, found.archs, found.driver_cuda, found.vision) == (
        "cuda",
        ("sm_80",),
        "12.8",
        True,
    )


def test_a_build_for_rocm(fake_torch: Callable[..., None]) -> None:
    """PyTorch calls AMD's cards cuda; the names of their kernels have no number."""
    fake_torch(1, build="None, '7.2.26015'", arch="gfx1100")
    found = inspection.ask_interpreter(sys.executable)
    assert (found.cuda, found.other, found.archs, found.accelerator) == ("", "ROCm", ("gfx1100",), "cuda")
    assert not found.gpus[0].error


def test_virtual_gpus_of_this_process_are_none_of_the_machines() -> None:
    with course_utils.virtual_gpus(2):
        assert "Virtual" not in str(inspection.ask_interpreter(sys.executable).gpus)


def test_a_missing_gpu_is_asked_for_the_reason(fake_torch: Callable[..., None]) -> None:
    fake_torch(0)
    found = inspection.ask_interpreter(sys.executable)
    assert found.errors["devices"] == f"RuntimeError: {machines.NO_DRIVER}"
    assert found.warnings == (machines.TOO_OLD,)
    assert (found.gpus, found.accelerator, found.computes) == ((), "", True)


@posix
@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("kill -SEGV $$", "stopped by SIGSEGV"),
        (
            "echo 'Traceback ...' >&2; echo 'SystemError: the last line' >&2; exit 3",
            "exit code 3: SystemError: the last line",
        ),
        ("exit 0", "it stopped without a word"),
    ],
)
def test_a_crash_leaves_what_came_before(program: Callable[..., str], script: str, end: str) -> None:
    python = program(f"""echo 'noise'; echo '{{"step": "devices", "torch": "2.15.0"}}'; {script}""")
    found = inspection.ask_interpreter(python)
    assert (found.torch, found.step, found.end) == ("2.15.0", "devices", end)


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    found = inspection.ask_interpreter(str(tmp_path / "python"))
    assert found.end.startswith("it cannot be started: ")
    assert found.version == ()


@posix
def test_a_python_that_hangs_is_given_up(
    program: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "began")
    os.mkfifo(tmp_path / "never")
    script = """echo '{"step": "kernels"}'; echo > %s/began; read line < %s/never"""
    limits: list[float] = []

    class Process(subprocess.Popen):
        def wait(self, timeout: float | None = None) -> int:
            if timeout != 7.0:
                return super().wait(timeout)
            limits.append(timeout)
            (tmp_path / "began").read_text()  # blocks until the program has come so far
            raise subprocess.TimeoutExpired(self.args, timeout)

    monkeypatch.setattr(subprocess, "Popen", Process)
    found = inspection.ask_interpreter(program(script % (tmp_path, tmp_path)), limit=7.0)
    assert (found.step, found.end, limits) == ("kernels", "no answer in 7 seconds", [7.0])


HEADER = "| NVIDIA-SMI 580.95.05              Driver Version: 580.95.05      CUDA Version: 13.0     |"
NEW_HEADER = "| NVIDIA-SMI 610.43.02              KMD Version: 610.43.02     CUDA UMD Version: 13.3     |"


@posix
@pytest.mark.parametrize(
    ("script", "driver"),
    [
        (f"echo '{HEADER}'", Driver("580.95.05", "13.0", ("Tesla T4", "NVIDIA H100"), (9, 0))),
        (f"echo '{NEW_HEADER}'", Driver("610.43.02", "13.3", ("Tesla T4", "NVIDIA H100"), (9, 0))),
        (
            f"echo '{machines.MISMATCH}'; echo 'NVML library version: 580.95'; exit 18",
            Driver(error=machines.MISMATCH),
        ),
        (f'echo "{machines.NOT_LOADED}"; exit 9', Driver(error=machines.NOT_LOADED)),
        ("exit 4", Driver(error="exit code 4")),
    ],
)
def test_nvidia_smi(
    program: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, driver: Driver
) -> None:
    names = """--query-gpu=compute_cap,name) echo "7.5, Tesla T4"; echo "9.0, NVIDIA H100";;"""
    program(f"""case "$1" in {names} *) {script};; esac""", "nvidia-smi")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    assert inspection.ask_driver(tmp_path) == driver


def test_without_nvidia_smi_the_bus_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert inspection.ask_driver(tmp_path) == Driver()
    for number, (vendor, kind) in enumerate(
        [("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x8086", "0x030000"), ("0x1a03", "0x030000")]
    ):
        device = tmp_path / f"sys/bus/pci/devices/{number}"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    assert inspection.ask_driver(tmp_path) == Driver(cards=1, others=("Intel",))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without the variables that the doctor knows."""
    others = (
        "COLAB_RELEASE_TAG",
        "KAGGLE_KERNEL_RUN_TYPE",
        "KUBERNETES_SERVICE_HOST",
        "VIRTUAL_ENV",
        "JPY_PARENT_PID",
    )
    for name in (*inspection.VARIABLES, *others):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "variables", "expected"),
    [
        ({}, {}, {"wsl": False, "container": False, "host": ""}),
        ({"proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2"}, {}, {"wsl": True}),
        ({".dockerenv": ""}, {}, {"container": True}),
        ({"run/.containerenv": ""}, {}, {"container": True}),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {"container": True}),
        ({".dockerenv": ""}, {"COLAB_RELEASE_TAG": "x"}, {"host": "colab", "container": False}),
        ({}, {"COLAB_RELEASE_TAG": "x", "KAGGLE_KERNEL_RUN_TYPE": "Batch"}, {"host": "kaggle"}),
        ({"proc/meminfo": "MemTotal:   16000000 kB\nMemFree: 1 kB"}, {}, {"memory": 16_384_000_000}),
        (
            {"proc/meminfo": "MemTotal: 16000000 kB", "sys/fs/cgroup/memory.max": "4000000000\n"},
            {},
            {"memory": 4_000_000_000},
        ),
        (
            {"proc/meminfo": "MemTotal: 1000 kB", "sys/fs/cgroup/memory.max": "max\n"},
            {},
            {"memory": 1_024_000},
        ),
        ({}, {"CUDA_VISIBLE_DEVICES": ""}, {"variables": {"CUDA_VISIBLE_DEVICES": ""}}),
    ],
)
def test_places(
    bare: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], variables: dict[str, str], expected: dict
) -> None:
    for name, value in variables.items():
        bare.setenv(name, value)
    place = inspection.look_at_place(write(tmp_path, files), tmp_path)
    assert {name: getattr(place, name) for name in expected} == expected
    assert place.disk_free > 0


def test_strays_on_the_library_path(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path, {"a/libcudnn.so.8": "", "a/libm.so": "", "b/libcudart.so.12": ""})
    bare.setenv(
        "LD_LIBRARY_PATH", os.pathsep.join([f"{tmp_path}/a", "", f"{tmp_path}/b", f"{tmp_path}/none"])
    )
    strays = inspection.look_at_place(tmp_path, tmp_path).strays
    assert [Path(stray).name for stray in strays] == ["libcudnn.so.8", "libcudart.so.12"]


def test_variables_that_were_set_later(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setenv("CUDA_VISIBLE_DEVICES", "1")
    bare.setenv("PYTORCH_ALLOC_CONF", "a:1")
    assert inspection.look_at_caller(tmp_path).changed == ()  # no /proc: nothing is known
    write(tmp_path, {"proc/self/environ": "HOME=/home/ann\0PYTORCH_ALLOC_CONF=a:1\0COURSE_DATA=x\0"})
    assert inspection.look_at_caller(tmp_path).changed == ("CUDA_VISIBLE_DEVICES", "COURSE_DATA")


def test_another_environment(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert inspection.look_at_caller(tmp_path).elsewhere == ""
    bare.setenv("VIRTUAL_ENV", sys.prefix)
    assert inspection.look_at_caller(tmp_path).elsewhere == ""
    bare.setenv("VIRTUAL_ENV", str(tmp_path))
    assert inspection.look_at_caller(tmp_path).elsewhere == str(tmp_path)


def test_a_kernel_of_another_environment_than_its_server(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setitem(
        sys.modules, "IPython", type("IPython", (), {"get_ipython": lambda: type("Shell", (), {"kernel": 1})})
    )
    bare.setenv("JPY_PARENT_PID", "77")
    write(tmp_path, {"proc/77/cmdline": f"{Path(sys.executable).parent}/python3\0-m\0jupyterlab\0"})
    assert inspection.look_at_caller(tmp_path).elsewhere == ""
    write(tmp_path, {"proc/77/cmdline": "/opt/lab/bin/python3\0-m\0jupyterlab\0"})
    caller = inspection.look_at_caller(tmp_path)
    assert (caller.notebook, caller.elsewhere) == (True, "/opt/lab")


def test_virtual_gpus_of_the_caller_are_not_taken_for_real_ones() -> None:
    with course_utils.virtual_gpus(count=3, memory="512 MiB"):
        caller = inspection.look_at_caller()
        assert (caller.virtual, caller.uuids) == ("3 of 0.5 GiB", None)
    assert inspection.look_at_caller().virtual == ""


class Card:
    uuid = "b2f0"


def test_the_gpus_cuda_was_started_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = type("cuda", (), {})
    fake.is_initialized, fake.device_count, fake.get_device_properties = (
        lambda: True,
        lambda: 2,
        lambda number: Card,
    )
    monkeypatch.setattr("torch.cuda", fake)
    assert inspection.look_at_caller().uuids == ("b2f0", "b2f0")


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ([], "none"),
        (["train/cat/1.png"], "pictures"),
        ([ARCHIVE], "archive"),
        ([f"{BATCHES}/data_batch_1"], "incomplete"),
        ([f"{BATCHES}/data_batch_1", "train/cat/1.png"], "incomplete"),
    ],
)
def test_the_data_folder_is_judged_as_the_course_does(
    bare: pytest.MonkeyPatch, tmp_path: Path, files: list[str], state: str
) -> None:
    write(tmp_path, dict.fromkeys(files, "x"))
    for named in filter(Path.is_dir, (tmp_path, tmp_path / BATCHES)):
        bare.setenv("COURSE_DATA", str(named))
        assert inspection.look_at_data() == (str(tmp_path), state)
        assert data_folder() == tmp_path


def test_official_files_are_told_by_their_size(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setenv("COURSE_DATA", str(tmp_path))
    batches = [f"{BATCHES}/{name}" for name in ("test_batch", *(f"data_batch_{n}" for n in range(1, 6)))]
    write(tmp_path, dict.fromkeys([f"{BATCHES}/batches.meta", *batches], "x"))
    assert inspection.look_at_data()[1] == "incomplete"
    for name in batches:
        os.truncate(tmp_path / name, 31_035_000)  # a sparse file: takes no room
    assert inspection.look_at_data()[1] == "official"


def test_the_data_folder_where_nothing_is_named(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert inspection.look_at_data()[0] == str(data_folder())
    bare.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert inspection.look_at_data(tmp_path)[0] == str(tmp_path / "pytorch-gpu-course")
    bare.setenv("COURSE_DATA", "standin")
    assert inspection.look_at_data()[1] == "standin"
    bare.setenv("COURSE_DATA", str(tmp_path / "gone"))
    assert inspection.look_at_data() == (str(tmp_path / "gone"), "lost")


def test_the_readers_own_files_are_named_and_not_run(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = ["pyproject.toml", "torch.py", "notebooks/numpy.py", "notebooks/my_random.py", "work/numbers.py"]
    write(
        tmp_path, dict.fromkeys([*files, "work/random/__init__.py", "data/torch/a.txt"], "raise SystemExit")
    )
    bare.chdir(tmp_path)
    shadows = inspection.look_at_place(tmp_path, tmp_path).shadows
    expected = ["torch.py", "notebooks/numpy.py", "work/numbers.py", "work/random"]
    assert list(shadows) == [str(tmp_path / name) for name in expected]
    assert inspection.ask_interpreter(sys.executable).computes


def test_only_the_folder_one_is_in_counts_without_a_clone(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Then the course's own folder is site-packages, where torch belongs."""
    write(tmp_path, {"torch/__init__.py": "", "here/notes.txt": ""})
    bare.chdir(tmp_path / "here")
    assert inspection.look_at_place(tmp_path, tmp_path).shadows == ()


def test_a_user_without_home_and_name(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setattr("os.path.expanduser", lambda path: path)  # as where there is neither HOME nor a name
    place = inspection.look_at_place(tmp_path, tmp_path)
    assert (place.home, place.home_missing, place.data) == ("", True, "homeless")
    bare.setenv("COURSE_DATA", "~/pictures")
    assert inspection.look_at_place(tmp_path, tmp_path).data == "lost"


def test_folders_that_may_not_be_used(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": "", "notebooks/a": ""})
    place = inspection.look_at_place(tmp_path, tmp_path)
    assert (place.read_only, place.home_missing) == (False, False)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    bare.setattr(os, "access", lambda path, mode: False)
    bare.setattr(inspection, "contents", refuse)
    bare.setenv("HOME" if os.name == "posix" else "USERPROFILE", str(tmp_path / "gone"))
    place = inspection.look_at_place(tmp_path, tmp_path)
    assert (place.read_only, place.home_missing, place.data) == (True, True, "unreadable")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("look_at_caller", "the asker"),
        ("look_at_place", "the place"),
        ("ask_interpreter", "its Python"),
        ("ask_driver", "the driver"),
    ],
)
def test_a_look_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    facts = machines.machine()

    def fail(*_: object) -> None:
        raise OSError("planted")

    monkeypatch.setattr(inspection, "look_at_caller", lambda: facts.caller)
    monkeypatch.setattr(inspection, "look_at_place", lambda: replace(facts.place, environment=ACTIVE))
    monkeypatch.setattr(inspection, "ask_interpreter", lambda python: facts.interpreter)
    monkeypatch.setattr(inspection, "ask_driver", lambda: facts.driver)
    monkeypatch.setattr(inspection, name, fail)
    first, *others, verdict = judge(inspection.collect())
    assert first.title == f"this check failed: {said} (OSError: planted)"
    assert len(others) > 1
    assert not any("failed" in finding.title or "does not work" in finding.title for finding in others)
    can = "The course cannot run here yet" if name == "ask_interpreter" else "This machine can run"
    assert verdict.title.startswith(can)
