"""Exercises: `lesson_NN.toml` has the texts of a lesson, `lesson_NN.py` what its answers are tried on.

In a lesson: `from course_utils.exercises import lesson_05 as exercise`, then `exercise.NAME.check(...)`,
`exercise.NAME.hint()` or `.solution()`, and `exercise.summary()` for what is done. `lesson.py` says what the
author of an exercise writes, `trying.py` how answers are judged; `instruments` observe them.
"""
