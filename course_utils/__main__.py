"""Entry of `python3 -m course_utils`.

This file and `__init__.py` keep to what Python 3.6 understands, so that an old Python can say what is wrong.
"""

import argparse
import os
import runpy
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4


def complaint(version: tuple) -> str:
    """Return what to do where Python is older than 3.11, else an empty string."""
    if tuple(version[:2]) >= (3, 11):
        return ""
    newer = [name for name in ("python3.13", "python3.12", "python3.11", "python3.14") if shutil.which(name)]
    way = f"Use {newer[0]} in place of python3." if newer else "Install a newer one from python.org."
    return f"course_utils: this is Python {version[0]}.{version[1]}, the course needs 3.11 to 3.14. {way}"


def trying(typed: list) -> int:
    """Run a script on virtual GPUs, as `python SCRIPT` does, or as `torchrun` with several processes."""
    parser = argparse.ArgumentParser("python3 -m course_utils try", description=trying.__doc__)
    parser.add_argument("--gpus", type=int, default=8, choices=range(1, 9), metavar="N", help="1 to 8 (8)")
    parser.add_argument("--memory", default="2 GiB", metavar="SIZE", help="of each GPU ('2 GiB')")
    parser.add_argument("--nproc", type=int, metavar="N", help="start N processes with torchrun")
    parser.add_argument("script", metavar="SCRIPT", help="a file, or a program written in Python")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="of the script")
    given = parser.parse_args(typed)
    program = given.script if Path(given.script).is_file() else shutil.which(given.script)  # accelerate, say
    if not program:
        parser.error(f"there is no file {given.script}")
    if not find_spec("torch"):
        parser.error(f"no PyTorch for {sys.executable}: take the Python that runs the script otherwise")
    settings = _file("virtual", "startup", "sitecustomize.py")["settings"]
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")  # nothing is left beside the script
    os.environ.update(settings(given.gpus, given.memory))
    script = [program, *given.arguments]
    if given.nproc is None:
        return _become([sys.executable, *script])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return _guard([*torchrun, "--nproc-per-node", str(given.nproc), *script])


def _file(*names: str) -> dict:
    """Return what a file of the package defines, without its room, which would import torch."""
    return runpy.run_path(str(Path(__file__).resolve().parent.joinpath(*names)))


def _become(command: list) -> int:
    """Let this process be `command`; Windows cannot, so there it waits, and leaves Ctrl-C to the command."""
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(command[0], command)
    signal.signal(signal.SIGINT, lambda *_: None)
    return subprocess.call(command)


def _guard(command: list) -> int:
    """Run torchrun, and leave no process of it behind."""
    cleanup = _file("distributed", "cleanup.py")
    run = os.environ[cleanup["MARK"]] = uuid4().hex
    with cleanup["guarded"](run), subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # torchrun was told as well, and ends its ranks
                continue


def main() -> int:
    """Check the Python version, then hand the arguments to the clone's command line."""
    if complaint(sys.version_info):
        sys.exit(complaint(sys.version_info))
    if sys.argv[1:2] == ["try"]:  # in the environment of the script, which is not the course's
        return trying(sys.argv[2:])
    tools = Path(__file__).resolve().parents[1] / "tools"
    if (tools / "start").is_dir():
        sys.path.insert(0, str(tools))
        from start.cli import main as command_line

        return command_line(sys.argv[1:])
    if sys.argv[1:2] != ["doctor"]:
        sys.exit(
            "course_utils: installed alone it has doctor and try. Other commands need a clone of the course."
        )
    from course_utils.machine.doctor import main as examine

    return examine(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
