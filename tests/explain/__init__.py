"""Tests of explain."""

from collections.abc import Callable

import pytest

from course_utils.errors import Explanation, explain


def explained(call: Callable[[], object], **named: object) -> Explanation:
    """Return the explanation of the error that a call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what the caller looks at
        call()
    return explain(caught.value, **named)
