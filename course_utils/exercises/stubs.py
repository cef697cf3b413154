"""Has the reader touched an answer? Gaps and functions are compared with those of the stub."""

from collections.abc import Iterator
from types import CodeType
from typing import Any


def blank(value: Any) -> bool:
    """Tell whether a value is a gap that nobody has filled."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple) and value:
        return all(blank(item) for item in value)
    return value is None or value is ...


def functions_in(code: CodeType) -> Iterator[CodeType]:
    """Yield the functions in compiled source, also those inside of others."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from functions_in(constant)


def is_stub(answer: Any, stub: CodeType) -> bool:
    """Tell whether a function, or each function of a class, is one of the compiled stub."""
    if isinstance(answer, type):
        own = [value for value in vars(answer).values() if hasattr(value, "__code__")]
        return bool(own) and all(is_stub(function, stub) for function in own)
    code = getattr(answer, "__code__", None)
    return code is not None and _meaning(code) in map(_meaning, functions_in(stub))


def _meaning(code: CodeType) -> tuple[Any, ...]:
    """Return the name of a compiled function and what it does, wherever it was written."""
    constants = [_meaning(one) if isinstance(one, CodeType) else one for one in code.co_consts]
    return code.co_qualname, code.co_code, code.co_names, constants
