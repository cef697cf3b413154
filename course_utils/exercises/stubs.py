"""Has the reader touched an answer? Gaps and functions are compared with those of the stub."""

from types import CodeType
from typing import Any


def blank(value: Any) -> bool:
    """Tell whether a value is a gap that nobody has filled."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple) and value:
        return all(blank(item) for item in value)
    return value is None or value is ...


def functions_in(code: CodeType) -> dict[str, CodeType]:
    """Return the functions in compiled source, by qualified name."""
    found = {}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found[constant.co_qualname] = constant
            found |= functions_in(constant)
    return found


def is_stub(answer: Any, codes: dict[str, CodeType]) -> bool:
    """Tell whether a function, or each function of a class, is that of the stub."""
    if isinstance(answer, type):
        own = [value for value in vars(answer).values() if hasattr(value, "__code__")]
        return bool(own) and all(is_stub(function, codes) for function in own)
    code = getattr(answer, "__code__", None)
    stub = codes.get(code.co_qualname) if code is not None else None
    return stub is not None and _same(code, stub)


def _same(one: CodeType, two: CodeType) -> bool:
    """Tell whether two compiled functions do the same, wherever they were written."""
    if (one.co_code, one.co_names, len(one.co_consts)) != (two.co_code, two.co_names, len(two.co_consts)):
        return False
    pairs = zip(one.co_consts, two.co_consts, strict=True)
    return all(
        _same(a, b) if isinstance(a, CodeType) and isinstance(b, CodeType) else a == b for a, b in pairs
    )
