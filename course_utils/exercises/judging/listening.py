"""Hears what Python does to files and connections; one audit hook for all, since Python never removes one."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Listener = Callable[[str, tuple[Any, ...]], None]
_listeners: list[Listener] = []
_installed: list[bool] = []


def _pass_on(event: str, args: tuple[Any, ...]) -> None:
    for listener in _listeners:
        listener(event, args)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Pass audit events (see "Audit events table" of Python's library reference) to `listener` in a block."""
    if not _installed:
        sys.addaudithook(_pass_on)
        _installed.append(True)
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
