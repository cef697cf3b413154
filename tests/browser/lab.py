"""A JupyterLab server on a copy of the lessons, and the Chromium that looks at it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from start import bootstrap, cli, workspace
from start.runner import repeatable_environment

from course_utils.lessons import ROOT
from course_utils.machine import environment

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
# A container has no sandbox and no GPU; the others keep Chromium, and pages, from calling anybody else. (A
# route that refuses would switch the cache off, too.)
CHROMIUM_FLAGS = [
    *"--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-dev-shm-usage".split(),
    *"--disable-background-networking --disable-component-update --disable-sync".split(),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
]
NO_CHROMIUM = (
    "no Chromium here; `apt-get install chromium` or `python -m playwright install chromium` gets one"
)
TOKEN = "reader"
START_SECONDS, STOP_SECONDS = 60, 20
SETTINGS = {
    # every cell is in the page, so that it can be counted and measured
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},
    # what is saved would be the copy; a save in mid-run only costs time
    "docmanager-extension/plugin": {"autosave": False},
    "apputils-extension/notification": {"checkForUpdates": False, "fetchNews": "false"},
}


def find_chromium(own: str) -> str | None:
    """Return a Chromium's path: the system's, else Playwright's `own` where it was installed."""
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    return found or (own if Path(own).is_file() else None)


@dataclass(frozen=True)
class Lab:
    """A running server: its address without a slash at the end, and the folder it shows."""

    url: str
    root: Path

    def link(self, path: str) -> str:
        """Return the address that opens a file, with the token and an empty workspace."""
        return f"{self.url}/lab/tree/{path}?reset&token={TOKEN}"

    def get(self, path: str) -> object:
        """Ask the server's own interface, for example `api/kernels`."""
        with urllib.request.urlopen(f"{self.url}/{path}?token={TOKEN}", timeout=10) as answer:
            return json.load(answer)

    def kernels(self) -> list[str]:
        """Return the kernels' ids.

        While a kernel starts, as after a link to another lesson was opened, the server has no time of last
        activity for it, fails to list any and answers 500: it is asked again.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return [kernel["id"] for kernel in self.get("api/kernels")]
            except urllib.error.HTTPError as error:
                if error.code != 500 or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def stop_kernels(self) -> None:
        """End every kernel, so that the next lesson has the machine to itself."""
        while kernels := self.kernels():
            for kernel in kernels:
                address = f"{self.url}/api/kernels/{kernel}?token={TOKEN}"
                urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=30).close()


@contextmanager
def running_lab(folder: Path, arguments: Sequence[str] = ()) -> Iterator[Lab]:
    """Serve a copy of the lessons as `python3 -m course_utils lab` does; it ends with its kernels.

    Args:
        folder: an empty one; the copy lies in `course` in it, the server's output in `server.log`.
        arguments: more of JupyterLab's own.
    """
    root = folder / "course"
    shutil.copytree(
        ROOT / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".*", "progress.json")
    )
    workspace.refresh(root)
    shutil.copytree(ROOT / "docs", root / "docs")
    for page in ROOT.glob("*.md"):  # lessons link to these and to what is in docs
        shutil.copy(page, root)
    env = _server_environment(folder)
    port = _free_port()
    command = [
        *_lab_command(),
        "--no-browser",
        "--allow-root",
        f"--ServerApp.root_dir={root}",
        f"--port={port}",
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--expose-app-in-browser", *arguments], cwd=root, env=env, stdout=log, stderr=log
        )
        try:
            yield Lab(_wait_for_address(process, folder), root)
        finally:
            _stop(process)


def _lab_command() -> list[str]:
    """Return what the command `lab` would run, with this interpreter in place of the one it installs into."""
    commands = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "prepare", lambda: Path(sys.executable))
        patch.setattr(environment, "in_colab", lambda: False)
        patch.setattr(cli, "hand_over", lambda command: commands.append(list(map(str, command))))
        patch.setattr(workspace, "refresh", list)
        patch.setitem(os.environ, "JUPYTER_PREFER_ENV_PATH", "1")
        cli.lab([])
    return commands[0]


def _server_environment(folder: Path) -> dict[str, str]:
    """The kernels' environment, with buttons and sliders, and with no file outside `folder`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "COURSE_"))}
    env = repeatable_environment(env)
    del env["COURSE_WIDGETS"]
    env |= {"COURSE_PROGRESS": str(folder / "progress.json"), "JUPYTER_TOKEN": TOKEN}
    env |= {"JUPYTER_PREFER_ENV_PATH": "1"}
    for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"):
        env[f"JUPYTER_{name}"] = str(folder / name.lower())
    for name in ("SETTINGS_DIR", "WORKSPACES_DIR"):
        env[f"JUPYTERLAB_{name}"] = str(folder / name.lower())
    for name, values in SETTINGS.items():
        path = folder / "settings_dir" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    return env


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for_address(process: subprocess.Popen, folder: Path) -> str:
    """Return the server's address once it answers; it takes another port where the free one has gone."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for file in (folder / "runtime_dir").glob("jpserver-*.json"):
            try:
                url = json.loads(file.read_text(encoding="utf-8"))["url"].rstrip("/")
                Lab(url, folder).get("api/status")
                return url
            except (OSError, ValueError):
                pass  # half written, or not listening yet
        time.sleep(0.05)
    log = (folder / "server.log").read_text(encoding="utf-8", errors="replace")
    raise RuntimeError(f"JupyterLab did not start in {START_SECONDS} s:\n{log[-3000:]}")


def _stop(process: subprocess.Popen) -> None:
    """End the server and whatever it started; kernels are asked first, then killed."""
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS / 4)
        for child in alive:
            child.kill()
