"""Packages without code, as pip takes them."""

import zipfile
from collections.abc import Sequence
from pathlib import Path


def metadata(name: str, version: str, needs: Sequence[str] = ()) -> str:
    """The METADATA file of a package."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    return "\n".join([*lines, *(f"Requires-Dist: {need}" for need in needs)]) + "\n"


def write_wheel(folder: Path, name: str, version: str, needs: Sequence[str] = ()) -> Path:
    """A wheel without code."""
    info = f"{name.replace('-', '_')}-{version}"
    path = folder / f"{info}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{info}.dist-info/METADATA", metadata(name, version, needs))
        wheel.writestr(
            f"{info}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}.dist-info/RECORD", "")
    return path
