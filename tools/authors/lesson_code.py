"""Code out of a lesson's notebook, so that what is measured elsewhere is what the reader sees."""

import ast
import json
from collections.abc import Iterable
from typing import Any

from course_utils.lessons import ROOT


def lesson_code(lesson: str, names: Iterable[str], **given: Any) -> dict[str, Any]:
    """Run a lesson's imports and the first statement that binds each of `names`; return their namespace.

    Calls of `os.environ` at the top level run as well: they are settings for the libraries.

    Args:
        lesson: the notebook's name, such as "01_device_basics".
        names: functions, classes and variables of the lesson's top level; an assigned attribute in full
            ("train_set.transform"). The statements run in the lesson's order; an `if` runs as a whole.
        given: values the statements need but shall not take from the lesson, such as `device`.

    Raises:
        LookupError: the lesson does not bind one of the names.
    """
    path = ROOT / "notebooks" / f"{lesson}.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    missing, kept = set(names), []
    for statement in (node for source in sources for node in ast.parse(source).body):
        found = missing & _bound(statement)
        setup = isinstance(statement, ast.Import | ast.ImportFrom)
        if found or setup or ast.unparse(statement).startswith("os.environ."):
            kept.append(statement)
            missing -= found
    if missing:
        raise LookupError(f"lesson {lesson} does not define: {', '.join(sorted(missing))}")
    exec(compile(ast.Module(kept, []), path.name, "exec"), given)
    return given


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement binds: by `def` and `class`, by `=`, or by these inside an `if`."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            parts = [part for target in targets for part in ast.walk(target)]
            return {ast.unparse(part) for part in parts if isinstance(getattr(part, "ctx", None), ast.Store)}
        case ast.If(body=body, orelse=orelse):
            return {name for inner in [*body, *orelse] for name in _bound(inner)}
    return set()
