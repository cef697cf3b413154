"""A plugin of pytest: what is imported is no garbage, and is not searched for any.

Judges of memory search often, and each time all the objects that PyTorch and Matplotlib are made of were
looked at, too: for many exercises that was most of a test's time.
"""

import gc


def pytest_collection_finish() -> None:
    """Set aside all there is before the first test."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Bring it back: libraries count what they leave behind at the end."""
    gc.unfreeze()
