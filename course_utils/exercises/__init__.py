"""Exercises: one module per lesson, `lesson_01` to `lesson_08`, with an object for each exercise.

In a lesson: `from course_utils.exercises import lesson_05 as exercise`, then `exercise.NAME.check(...)`,
`exercise.NAME.hint()` or `.solution()`, and `exercise.summary()` for what is done. `engine.py` says what an
exercise is; `judging` holds what answers are tried on.
"""

from .progress import summary

__all__ = ["summary"]
