"""Which CUDA kernels check that their tensors are on one device, read from the installed PyTorch's library.

The code around such a kernel holds its own name, for the error that it raises. A name that the library does
not hold is one that CUDA never prints.
"""

import mmap
import re
import textwrap
import tomllib
from pathlib import Path

import torch

from course_utils.lessons import ROOT

TABLE = ROOT / "course_utils" / "virtual" / "wrappers.toml"
LIBRARY = Path(torch.__file__).parent / "lib" / "libtorch_cuda.so"
_HEAD = "# Written by `python tools/authors wrappers`, with a CUDA build of each version of PyTorch.\n"


def names(library: Path = LIBRARY) -> set[str]:
    """Return the names in a libtorch_cuda, without their common beginning."""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # in full between zeros: others are symbols
        return {name.decode() for name in re.findall(rb"\0wrapper_CUDA_(\w+)(?=\0)", data)}


def record(library: Path = LIBRARY) -> list[str]:
    """Write the names of the installed version into the table; return what is wrong."""
    if not library.is_file():
        return [f"PyTorch {torch.__version__} is built without CUDA. Use a CUDA build."]
    version = ".".join(torch.__version__.split(".")[:2])
    wrapped = textwrap.fill(" ".join(sorted(names(library))), 110)
    known = tomllib.loads(TABLE.read_text(encoding="utf-8")) | {version: wrapped}
    parts = [f'"{version}" = """\n{text}"""\n' for version, text in sorted(known.items())]
    TABLE.write_text("\n".join([_HEAD, *parts]), encoding="utf-8")
    return []
