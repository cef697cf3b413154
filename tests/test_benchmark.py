"""The benchmark measures what the reader sees: the network and the loops of lesson 04."""

import os
import runpy
import sys
import time

import torch
from authors import benchmark
from start.options import options_of


def test_a_ratio_is_the_median_of_pairs_measured_in_turn():
    clock = iter([0, 3, 3, 4, 10, 16, 16, 17, 20, 21, 21, 31])  # pairs of (3, 1), (6, 1), (1, 10)
    calls = []
    value = benchmark.ratio(lambda: calls.append(1), lambda: calls.append(2), 3, lambda: next(clock))
    assert value == 3
    assert calls == [1, 2] * 4


def test_on_windows_the_clock_is_one_that_ticks_often(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert runpy.run_path(benchmark.__file__)["CLOCK"] is time.perf_counter


def test_one_small_run_prints_every_figure(capsys, monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ | {"COURSE_DATA": "standin"})
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)  # the lesson sets it for its process
    threads = torch.get_num_threads()
    assert benchmark.main(**options_of("bench", ["--rounds", "1", "--pictures", "100"])) == 0
    printed = capsys.readouterr().out
    for figure in ("batch 128", "batch 256", "track_memory", "faster loop / first loop"):
        assert figure in printed
    assert torch.get_num_threads() == threads
