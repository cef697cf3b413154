"""Exercises: one module per lesson, `lesson_01` to `lesson_06`, with an object for each exercise.

from course_utils.exercises import lesson_05 as exercise

exercise.split_sizes.check(split_sizes)   # also: .hint(), .solution()
exercise.summary()                        # what is done in this lesson
"""

from .progress import summary

__all__ = ["summary"]
