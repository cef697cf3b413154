"""The server that the other tests look at, where it answers in its own way."""

import urllib.error
from pathlib import Path

import pytest

from .lab import Lab


def test_kernels_are_asked_for_again_while_one_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    starting = urllib.error.HTTPError("", 500, "Internal Server Error", None, None)
    answers = iter([starting, starting, [{"id": "started"}]])

    def get(self: Lab, path: str) -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Lab, "get", get)
    assert Lab("", Path()).kernels() == ["started"]
