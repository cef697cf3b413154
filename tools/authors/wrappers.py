"""Which CUDA kernels check that their tensors are on one device, read from the installed PyTorch's library.

The code around such a kernel holds its own name, for the error that it raises. A name that the library does
not hold is one that CUDA never prints.
"""

import mmap
import re
import textwrap
from pathlib import Path

import torch

from course_utils.lessons import ROOT

TABLE = ROOT / "course_utils" / "virtual" / "wrappers.toml"
LIBRARY = Path(torch.__file__).parent / "lib" / "libtorch_cuda.so"
_START = b"\0wrapper_CUDA_"
_HEAD = "# Written by `python tools/authors wrappers`, with a CUDA build of each version of PyTorch.\n"


def names(library: Path = LIBRARY) -> set[str]:
    """Return the names in a libtorch_cuda, without their common beginning."""
    found = set()
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = data.find(_START)
        while place >= 0:
            text = data[place + len(_START) : data.find(b"\0", place + 1)].decode("latin-1")
            found |= {text} if re.fullmatch(r"\w+", text) else set()  # others are symbols
            place = data.find(_START, place + 1)
    return found


def record(library: Path = LIBRARY) -> list[str]:
    """Write the names of the installed version into the table; return what is wrong."""
    if not library.is_file():
        return [f"PyTorch {torch.__version__} is built without CUDA. Use a CUDA build."]
    version = ".".join(torch.__version__.split(".")[:2])
    known = TABLE.read_text(encoding="utf-8").removeprefix(_HEAD) if TABLE.is_file() else ""
    others = [part for part in re.split(r"\n(?=\")", known) if part and not part.startswith(f'"{version}"')]
    wrapped = textwrap.fill(" ".join(sorted(names(library))), 110)
    parts = sorted([*others, f'"{version}" = """\n{wrapped}"""\n'])
    TABLE.write_text(_HEAD + "\n" + "\n".join(part.strip() + "\n" for part in parts), encoding="utf-8")
    return []
