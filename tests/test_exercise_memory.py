"""The par of lesson 06's golf, and what its judges leave alone."""

import pytest
import torch

import course_utils
from course_utils.exercises.exercise import RIGHT, Verdict
from course_utils.exercises.lesson_06 import lesson


def verdict(name: str) -> Verdict:
    """Judge the worked answer."""
    exercise = lesson.exercises[name]
    return exercise.verdict(*lesson.answers(name, exercise.worked))


def test_the_par_of_the_golf_is_what_the_worked_answer_reaches() -> None:
    with course_utils.virtual_gpus(2, "2 GiB"):
        score = verdict("smallest_step").score
    assert score.value == pytest.approx(score.par, abs=0.02)
    assert "reached" in str(score)


def test_judging_leaves_the_random_numbers_of_the_lesson_alone() -> None:
    with course_utils.virtual_gpus(1, "2 GiB"):
        torch.manual_seed(0)
        wanted = torch.rand(2).tolist(), torch.rand(2, device="cuda").tolist()
        torch.manual_seed(0)
        for name in ("ValidationLog", "accumulate", "careful_step", "smallest_step"):
            assert verdict(name).outcome == RIGHT
        assert (torch.rand(2).tolist(), torch.rand(2, device="cuda").tolist()) == wanted
