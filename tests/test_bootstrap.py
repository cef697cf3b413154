"""Installing: which environment, what pip is asked for there, and one clear line for what is in the way."""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from start import bootstrap

from course_utils.lessons import CourseError
from course_utils.machine import environment
from course_utils.machine.environment import Environment
from course_utils.machine.system import Answer, text_of

GB = 1e9


class Machine:
    """A machine whose disk, interpreters and packages are made up, and whose pip only takes notes."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.prefix = root, root / ".venv"
        root.mkdir(exist_ok=True)
        self.monkeypatch = monkeypatch
        self.calls: list[list[str]] = []
        self.versions = {"torch": "2.11.0+cu128", "torchvision": "0.26.0+cu128"}
        self.pip_fails, self.origin = False, root.as_uri()
        self.made: list[str] = []
        (root / "requirements.txt").write_text(
            "# the list\n-e .   # us\ntorch==2.15.0  # a#b\ntorchvision==0.29.2\n\n"
            "jupyterlab==4.6.6\nruff==0.17.5\n"
        )
        (root / "pyproject.toml").write_text("[build-system]\nrequires = []\n[project]\nname = 'x'\n")
        for name in ("COLAB_RELEASE_TAG", "CONDA_PREFIX", "CONDA_DEFAULT_ENV"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys, "prefix", "/python")
        monkeypatch.setattr(sys, "base_prefix", "/python")
        monkeypatch.setattr(sys, "platform", "linux")
        self.free(100)
        monkeypatch.setattr(bootstrap, "run_pip", self.pip)
        monkeypatch.setattr(bootstrap.subprocess, "run", self.run)
        monkeypatch.setattr(bootstrap.metadata, "version", self.versions.__getitem__)
        monkeypatch.setattr(environment.metadata, "distributions", self.distributions)
        monkeypatch.setattr(environment, "ask", self.ask)

    def free(self, gigabytes: float) -> None:
        """Set the free disk space."""
        usage = SimpleNamespace(free=gigabytes * GB)
        self.monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda path: usage)

    def active(self) -> None:
        """Be in an active virtual environment."""
        self.prefix = self.root / "env"
        self.prefix.mkdir(exist_ok=True)
        self.monkeypatch.setattr(sys, "prefix", str(self.prefix))

    def colab(self) -> None:
        """Be Colab."""
        self.monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
        self.prefix = self.root / "usr"
        self.prefix.mkdir()
        self.monkeypatch.setattr(sys, "prefix", str(self.prefix))

    def distributions(self, name: str, path: list[str]) -> list[SimpleNamespace]:
        """Stand in for importlib.metadata.distributions."""
        origin = json.dumps({"url": self.origin})
        found = SimpleNamespace(version=self.versions.get(name), read_text=lambda file: origin)
        return [found] if name in self.versions else []

    def pip(self, python: Path, root: Path, arguments: list[str], scratch: Path | None = None) -> None:
        """Stand in for pip install."""
        assert arguments[0] == "install"
        self.calls.append(arguments[1:])
        if self.pip_fails:
            raise CourseError("pip failed")

    def run(self, command: list, **options: object) -> SimpleNamespace:
        """Stand in for `python -m venv`."""
        self.made.append(" ".join(map(str, command[1:-1])))
        python = Environment("own", command[-1]).python
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text("3.12")
        return SimpleNamespace(returncode=0, stdout="")

    def ask(self, command: list[str], limit: float) -> Answer:
        """Stand in for asking the environment's Python for its version."""
        return Answer(text_of(Path(command[0])))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_fresh_clone_gets_its_own_environment(machine: Machine, capsys: pytest.CaptureFixture) -> None:
    assert bootstrap.prepare(machine.root) == Environment("own", machine.prefix).python
    assert machine.made == ["-m venv"]
    assert machine.calls == [["--quiet", "--retries=0", "--upgrade", "pip"], ["-r", "requirements.txt"]]
    assert "About 3.2 GB to download, 6.3 GB on disk; 100.0 GB are free." in capsys.readouterr().out
    assert not (machine.root / ".venv" / "tmp").exists()


def test_the_second_call_calls_neither_venv_nor_pip(machine: Machine, capsys: pytest.CaptureFixture) -> None:
    bootstrap.prepare(machine.root)
    machine.calls.clear()
    capsys.readouterr()
    bootstrap.prepare(machine.root)
    assert machine.calls == []
    assert machine.made == ["-m venv"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("file", "text", "again"),
    [
        ("requirements.txt", "torch==2.15.1\n", True),
        ("pyproject.toml", "[build-system]\nrequires = []\n[project]\nname = 'y'\n", True),
        ("pyproject.toml", "[build-system]\nrequires = []\n[project]\nname = 'x'\n[tool.ruff]\n", False),
        ("requirements.txt", None, False),
    ],
)
def test_what_changes_the_installation(machine: Machine, file: str, text: str | None, again: bool) -> None:
    bootstrap.prepare(machine.root)
    machine.calls.clear()
    path = machine.root / file
    path.write_text(path.read_text() + "# a comment\n" if text is None else text)
    bootstrap.prepare(machine.root)
    assert bool(machine.calls) is again


def test_a_cut_off_installation_goes_on_with_the_next_call(machine: Machine) -> None:
    machine.pip_fails = True
    for _ in range(2):
        with pytest.raises(CourseError, match="pip failed"):
            bootstrap.prepare(machine.root)
    machine.pip_fails = False
    bootstrap.prepare(machine.root)
    assert machine.made == ["-m venv"]
    assert machine.calls[-1] == ["-r", "requirements.txt"]


def test_two_installations_do_not_meet(machine: Machine) -> None:
    def second(*given: object) -> None:
        with pytest.raises(CourseError, match=r"another command is installing .* Wait for it"):
            bootstrap.prepare(machine.root)

    machine.monkeypatch.setattr(bootstrap, "_install", second)
    bootstrap.prepare(machine.root)


def test_an_environment_whose_python_is_gone_is_made_anew(machine: Machine) -> None:
    python = bootstrap.prepare(machine.root)
    python.unlink()
    bootstrap.prepare(machine.root)
    assert machine.made == ["-m venv", "-m venv --clear"]


def test_someone_elses_half_environment_is_mended_and_not_cleared(machine: Machine) -> None:
    (machine.root / ".venv").mkdir()
    bootstrap.prepare(machine.root)
    assert machine.made == ["-m venv"]


def test_what_a_python_prints_by_itself_is_no_version(machine: Machine) -> None:
    bootstrap.prepare(machine.root).write_text("a greeting\n3.12")
    bootstrap.prepare(machine.root)
    assert machine.made == ["-m venv"]


@pytest.mark.parametrize(("platform", "short", "told"), [("win32", 1, 1), ("win32", 0, 0), ("linux", 1, 0)])
def test_a_path_too_long_for_windows_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, short: bool, told: bool
) -> None:
    machine = Machine(tmp_path.joinpath("x" * 98), monkeypatch)
    monkeypatch.setattr(sys, "platform", platform)
    if short:  # only short paths can be written
        monkeypatch.setattr(Path, "touch", Path.read_bytes)
    with pytest.raises(CourseError, match=r"such long paths\. Move") if told else nullcontext():
        bootstrap.prepare(machine.root)
    assert machine.made == ["-m venv"] * (not told)
    assert not list(machine.root.glob("x*"))


def test_an_environment_of_an_old_python_is_refused(machine: Machine) -> None:
    python = Environment("own", machine.prefix).python
    python.parent.mkdir(parents=True)
    python.write_text("3.9")
    with pytest.raises(CourseError, match=r"\.venv holds Python 3\.9\. Delete that folder"):
        bootstrap.prepare(machine.root)


@pytest.mark.parametrize(
    ("platform", "free", "extra"),
    [
        ("linux", 100, []),
        ("linux", 10, ["--no-cache-dir"]),
        ("linux", 8.7, None),
        ("darwin", 2, []),
        ("win32", 1.2, None),
    ],
)
def test_disk_space(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, platform: str, free: float, extra: list | None
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    machine.free(free)
    if extra is None:
        with pytest.raises(CourseError, match=r"GB are needed in .* while it installs, .* GB are free"):
            bootstrap.prepare(machine.root)
        assert not machine.prefix.exists()
    else:
        bootstrap.prepare(machine.root)
        assert machine.calls[-1] == ["-r", "requirements.txt", *extra]


def test_what_an_earlier_call_installed_is_not_asked_of_the_disk_again(machine: Machine) -> None:
    machine.prefix.mkdir()
    with (machine.prefix / "libtorch.so").open("wb") as file:
        file.truncate(4 * 10**9)  # sparse: takes no space
    machine.free(6)
    bootstrap.prepare(machine.root)


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv(machine: Machine, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None if name == module else True)
    with pytest.raises(CourseError, match=r"sudo apt install python3\.\d+-venv"):
        bootstrap.prepare(machine.root)


def test_a_failing_venv_gives_its_last_line(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = SimpleNamespace(returncode=1, stdout="a\nError: [Errno 13] Permission denied: '.venv'\n")
    monkeypatch.setattr(Environment, "version", lambda self: "")
    monkeypatch.setattr(bootstrap.subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(CourseError, match=r"could not make .*: Error: \[Errno 13\] Permission denied"):
        bootstrap.prepare(machine.root)


def test_an_active_environment_is_used(machine: Machine) -> None:
    machine.active()
    assert bootstrap.prepare(machine.root) == Path(sys.executable)
    assert machine.calls == [["-r", "requirements.txt"]]
    assert not machine.made


def test_an_active_environment_that_has_everything_is_left_alone(
    machine: Machine, capsys: pytest.CaptureFixture
) -> None:
    machine.active()
    machine.versions = {
        "pytorch-gpu-course": "0.1.0",
        "torch": "2.15.0+cpu",
        "torchvision": "0.29.2",
        "jupyterlab": "4.6.6",
        "ruff": "0.17.5",
    }
    bootstrap.prepare(machine.root)
    assert machine.calls == []
    assert capsys.readouterr().out == ""
    (machine.prefix / ".pytorch-gpu-course").unlink()
    machine.origin = "file:///another/checkout"  # the lessons in `work` would import that one
    bootstrap.prepare(machine.root)
    assert machine.calls == [["-r", "requirements.txt"]]


def test_an_active_environment_that_cannot_be_written_is_used_too(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.active()
    monkeypatch.setattr(Environment, "stamp", property(lambda self: self.prefix / "no" / "such" / "folder"))
    assert bootstrap.prepare(machine.root) == Path(sys.executable)


def test_colab_keeps_its_torch_and_gets_only_what_is_missing(machine: Machine) -> None:
    machine.colab()
    bootstrap.prepare(machine.root)
    constraints = machine.root / "build" / "colab-constraints.txt"
    assert machine.calls == [["-e", ".", "ruff==0.17.5", "-c", str(constraints)]]
    assert constraints.read_text() == "torch==2.11.0+cu128\ntorchvision==0.26.0+cu128\n"


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        ({"CONDA_PREFIX": "/python", "CONDA_DEFAULT_ENV": "course"}, "active"),
        ({"CONDA_PREFIX": "/python", "CONDA_DEFAULT_ENV": "base"}, "own"),
        ({"CONDA_PREFIX": "/another", "CONDA_DEFAULT_ENV": "course"}, "own"),
        ({"COLAB_RELEASE_TAG": "release"}, "colab"),
        ({}, "own"),
    ],
)
def test_which_environment(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], kind: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment.find(machine.root).kind == kind


def test_the_interpreter_on_windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = Environment("own", tmp_path)
    monkeypatch.setattr(os, "name", "nt")
    assert place.python == tmp_path / "Scripts" / "python.exe"
    monkeypatch.setattr(os, "name", "posix")
    assert place.python == tmp_path / "bin" / "python"


def test_the_checkouts_own_metadata_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "another").mkdir()
    for folder in (tmp_path, tmp_path / "another"):
        (folder / "requirements.txt").write_text("-e .\n")
    info = tmp_path / "pytorch_gpu_course.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: pytorch-gpu-course\nVersion: 0.1.0\n")
    origin = json.dumps({"url": (tmp_path / "another").as_uri()})
    (info / "direct_url.json").write_text(origin)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    place = Environment("active", tmp_path)
    assert place.missing(tmp_path) == ["-e ."]
    assert place.missing(tmp_path / "another") == []


PIP_SAYS = {
    "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'": "Check the network",
    "ReadTimeoutError: Read timed out.": "Check the network",
    "ERROR: Could not install packages: [Errno 28] No space left on device": "the disk is full",
    "WARNING: connection broken by 'SSLError('[SSL: CERTIFICATE_VERIFY_FAILED'": "PIP_CERT",
    "/env/bin/python: No module named pip": "uv pip install -r requirements.txt",
    "ERROR: No matching distribution found for torch==2.15.0": "there is no PyTorch for Python 3.",
    "WARNING: x\nERROR: first\nERROR: Cannot install a\n\nhint: y": "pip failed: ERROR: Cannot install a",
    "error: subprocess-exited-with-error\n  pip subprocess to install build dependencies did not run"
    "\n  ╰─> [2 lines of output]\n      ERROR: Expected a list, got a login page\n      [end of output]\n"
    "error: subprocess-exited-with-error": "pip failed: ERROR: Expected a list, got a login page",
    "strange": "pip failed: strange",
    "": "pip failed: it gave no reason",
}


@pytest.mark.parametrize(("stderr", "answer"), PIP_SAYS.items())
def test_what_pip_says_becomes_one_line(stderr: str, answer: str) -> None:
    reason = bootstrap.pip_error(stderr)
    assert answer in reason
    assert "\n" not in reason


def test_pips_own_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    package = tmp_path / "pip"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import os, sys\n"
        "print(sys.argv[1:], os.environ['PIP_USER'], os.environ['TMPDIR'], os.getcwd())\n"
        "assert not os.environ['PIP_TARGET'], 'a folder of the reader\\'s'\n"
        "sys.exit('WARNING: Retrying\\nWARNING: Retrying\\nERROR: no\\n')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PIP_TARGET", "a folder of the reader's")
    with pytest.raises(CourseError, match="pip failed: ERROR: no"):
        bootstrap.run_pip(sys.executable, tmp_path, ["x"], "here")
    out, err = capfd.readouterr()
    assert f"['x'] 0 here {tmp_path}" in out
    assert out.count("The network does not answer") == 1
    assert err == ""
