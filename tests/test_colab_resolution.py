"""pip, asked for the course with everything it needs, leaves Colab's packages alone. Nothing is downloaded.

Colab is imitated by an environment that holds the names and versions of its package list, and no code.
"""

import json
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from authors import colab_environment
from wheels import metadata, write_wheel

from course_utils.lessons import ROOT

COURSE = "pytorch-gpu-course"
NEEDS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
NEWER = {"torch": "2.15.0", "torchvision": "0.29.2", "numpy": "2.9.0"}  # to be had, and not to be taken


@pytest.fixture(scope="module")
def colab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that seems to hold all of Colab's packages."""
    folder = tmp_path_factory.mktemp("colab") / "env"
    builder = venv.EnvBuilder(with_pip=False)
    builder.create(folder)
    paths = builder.ensure_directories(folder)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.check_output([paths.env_exe, "-c", code], text=True).strip()
    for name, version in colab_environment.packages().items():
        info = Path(site) / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(metadata(name, version, []), encoding="utf-8")
    return Path(paths.env_exe)


def test_the_imitation_is_made_of_colabs_versions() -> None:
    limits = dict(line.split("==") for line in colab_environment.constraints().splitlines())
    assert (limits["torch"], limits["ipython"]) == ("2.11.0", "7.34.0")
    assert not [name for name in limits if name.startswith("cuda-")]
    needed = {re.match(r"[\w-]+", need)[0] for need in NEEDS}
    assert needed <= set(colab_environment.WANTED.split()) <= set(colab_environment.packages())


def resolve(colab: Path, folder: Path, needs: list[str]) -> subprocess.CompletedProcess:
    """What pip would install for a course with these needs, where newer packages can be had."""
    for name, version in NEWER.items():
        write_wheel(folder, name, version, [])
    course = write_wheel(folder, COURSE, "0.1.0", needs)
    offline = ["--isolated", "--no-index", "--no-cache-dir", "--find-links", folder]
    report = ["--dry-run", "--quiet", "--report", folder / "report.json"]
    pip = [sys.executable, "-m", "pip", "--python", colab, "install"]
    return subprocess.run([*pip, *offline, *report, course], capture_output=True, text=True)


def would_install(folder: Path) -> set[str]:
    """The names in pip's report."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {item["metadata"]["name"] for item in report["install"]}


def test_the_course_takes_colabs_packages_as_they_are(colab: Path, tmp_path: Path) -> None:
    done = resolve(colab, tmp_path, NEEDS)
    assert done.returncode == 0, done.stderr
    assert would_install(tmp_path) == {COURSE}


def test_a_need_for_a_newer_torch_would_be_seen(colab: Path, tmp_path: Path) -> None:
    done = resolve(colab, tmp_path, [*NEEDS, "torch>=2.12"])
    assert done.returncode == 0, done.stderr
    assert would_install(tmp_path) == {COURSE, "torch"}


def test_a_need_that_colab_lacks_would_be_seen(colab: Path, tmp_path: Path) -> None:
    done = resolve(colab, tmp_path, [*NEEDS, "jupyterlab-rise"])
    assert done.returncode == 1
    assert "No matching distribution found for jupyterlab-rise" in done.stderr
