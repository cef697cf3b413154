"""The memory ledger: what every byte on the GPUs is, while a piece of code runs.

It reads PyTorch's own memory history, so real and virtual GPUs go the same way. `labels.py` and
`labelling.py` say what is running, `marks.py` what the memory of an object is, `history.py` replays the
history with both, `ledger.py` answers questions about it, `drawing.py` draws it.
"""

from .history import Block, Timeline
from .ledger import Ledger
from .track import track_memory

__all__ = ["Block", "Ledger", "Timeline", "track_memory"]
