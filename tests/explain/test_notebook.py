"""Explain in a notebook: the last error, and each one where the reader asks for it."""

import sys

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch import nn
from traitlets.config import Config

import course_utils
from course_utils.errors import explain, explain_at_hand


def test_last_uncaught_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "last_exc", RuntimeError("Target 5 is out of bounds."), raising=False)
    assert "A label is 5" in course_utils.explain().what


def test_nothing_to_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys, "last_exc", raising=False)
    monkeypatch.delattr(sys, "last_value", raising=False)
    with pytest.raises(ValueError, match="no error to explain"):
        explain()


def test_a_notebook_that_asks_for_it_gets_each_error_explained(capsys: pytest.CaptureFixture) -> None:
    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    cell = "import torch\nmine = torch.ones(2, device='cuda')\nmine + torch.ones(2)"
    said = []
    for command in ("", "%load_ext course_utils", "%unload_ext course_utils"):
        shell.run_cell(command)
        capsys.readouterr()
        shell.run_cell(cell)
        said.append(capsys.readouterr().out)
    assert ["What happened" in out for out in said] == [False, True, False]
    assert "mine  cuda:0" in said[1]
    assert "Your line      mine + torch.ones(2)" in said[1]


def test_objects_at_hand_are_those_of_your_line() -> None:
    net, x = nn.Linear(3, 2).cuda(), torch.ones(1, 3)
    with pytest.raises(RuntimeError) as caught:
        net(x)
    assert [line.split()[0] for line in explain_at_hand(caught.value).objects] == ["net", "x"]
