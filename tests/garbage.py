"""A plugin of pytest: what is imported is no garbage, and is not searched for any.

Judges of memory search often, and each time PyTorch's and Matplotlib's hundred thousands of objects were
looked at, too: it was most of what many an exercise's test took.
"""

import gc


def pytest_collection_finish() -> None:
    """Set aside all there is before the first test."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Bring it back: libraries count what they leave behind at the end."""
    gc.unfreeze()
