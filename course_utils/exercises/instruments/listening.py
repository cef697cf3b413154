"""Hears what Python does to files and connections; one audit hook for all, since Python never removes one."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Listener = Callable[[str, tuple[Any, ...]], None]
_listeners: list[tuple[int, Listener]] = []  # each with the thread that it listens to
_installed: list[bool] = []


def _pass_on(event: str, args: tuple[Any, ...]) -> None:
    for thread, listener in _listeners:
        if thread == threading.get_ident():
            listener(event, args)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Pass this thread's audit events ("Audit events table" in Python's library reference) to `listener`."""
    if not _installed:
        sys.addaudithook(_pass_on)
        _installed.append(True)
    entry = threading.get_ident(), listener
    _listeners.append(entry)
    try:
        yield
    finally:
        _listeners.remove(entry)
