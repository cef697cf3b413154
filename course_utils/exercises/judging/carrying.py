"""Carries answers to another process: pickle, plus functions and classes that were typed in a notebook.

Those have no module that another process could import. A function goes as its code, with what of the notebook
it refers to; a class as its bases and attributes. Sender and receiver must run the same Python.
"""

import builtins
import dis
import importlib
import io
import marshal
import pickle
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any

_MADE_IN_PYTHON = 1 << 9  # Py_TPFLAGS_HEAPTYPE; other types are in the interpreter itself
_OWN = ("__dict__", "__weakref__", "__module__", "__firstlineno__", "__static_attributes__")
_namespaces: dict[int, dict[str, Any]] = {}  # of what is being unpacked, one for each of the sender's


def pack(value: Any) -> bytes:
    """Return a value as bytes; raises TypeError or pickle.PicklingError where something cannot be carried."""
    buffer = io.BytesIO()
    _Packer(buffer).dump(value)
    return buffer.getvalue()


def unpack(data: bytes) -> Any:
    """Return a copy of what was packed; raises ImportError where a module is missing here."""
    _namespaces.clear()
    return pickle.loads(data)


class _Packer(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        """Say how to make a copy of what pickle does not know."""
        if isinstance(value, ModuleType):
            return importlib.import_module, (value.__name__,)
        if isinstance(value, FunctionType) and not _importable(value):
            key = id(value.__globals__)
            made = (key, marshal.dumps(value.__code__), len(value.__closure__ or ()))
            return _make_function, made, _state(value), None, None, _fill_function
        if isinstance(value, type) and value.__flags__ & _MADE_IN_PYTHON and not _importable(value):
            made = (type(value), value.__name__, value.__bases__)
            own = {name: item for name, item in vars(value).items() if name not in _OWN}
            return _make_class, made, own, None, None, _fill_class
        if isinstance(value, staticmethod | classmethod):
            return type(value), (value.__func__,)
        if isinstance(value, property):
            return property, (value.fget, value.fset, value.fdel)
        if isinstance(value, MappingProxyType):
            return _make_view, (dict(value),)
        return NotImplemented


def _importable(value: Any) -> bool:
    """Tell whether another process finds a function or class by its module and name."""
    if value.__module__ in (None, "__main__"):
        return False
    found: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _names(code: CodeType) -> Iterator[str]:
    """Yield the global names that compiled code looks up, also in functions inside."""
    for line in dis.get_instructions(code):
        if line.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield line.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _state(function: FunctionType) -> tuple[Any, ...]:
    """Return what a function needs besides its code."""
    used = {n: function.__globals__[n] for n in set(_names(function.__code__)) & set(function.__globals__)}
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    names = {"__qualname__": function.__qualname__, "__defaults__": function.__defaults__}
    names |= {"__kwdefaults__": function.__kwdefaults__, "__doc__": function.__doc__}
    return used, cells, names, dict(vars(function))


def _make_function(key: int, code: bytes, cells: int) -> FunctionType:
    space = _namespaces.setdefault(key, {"__builtins__": builtins, "__name__": "__main__"})
    closure = tuple(_cell() for _ in range(cells))
    return FunctionType(marshal.loads(code), space, closure=closure or None)


def _cell() -> Any:
    """Return a new cell of a closure, which is filled later."""
    content = None
    return (lambda: content).__closure__[0]  # type: ignore[index]


def _fill_function(function: FunctionType, state: tuple[Any, ...]) -> None:
    used, cells, names, attributes = state
    function.__globals__.update(used)
    for cell, content in zip(function.__closure__ or (), cells, strict=True):
        cell.cell_contents = content
    for name, value in names.items():
        setattr(function, name, value)
    vars(function).update(attributes)


def _make_view(content: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(content)


def _make_class(kind: type, name: str, bases: tuple[type, ...]) -> type:
    return kind(name, bases, {"__module__": "__main__"})


def _fill_class(made: type, own: dict[str, Any]) -> None:
    for name, value in own.items():
        setattr(made, name, value)
