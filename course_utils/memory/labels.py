"""Labels: what is running, as a word on each entry of PyTorch's memory history.

PyTorch's viewer (https://docs.pytorch.org/memory_viz) shows them, too.
"""

from typing import NamedTuple

FORWARD, BACKWARD, RECOMPUTE, STEP, OTHER = "forward", "backward", "recompute", "optimizer step", "other"
FROM_HOST, ACCUMULATE = "copy from host", "accumulate gradient"
_KNOWN = {FROM_HOST: "inputs", ACCUMULATE: "gradients"}  # categories of what these make
# Operators whose libraries take memory of their own beside the result, and may keep it.
WITH_WORKSPACE = frozenset("addmm mm bmm baddbmm addmv mv addbmm dot vdot convolution _scaled_mm".split())
_SEPARATOR = " | "


class Label(NamedTuple):
    """What was running: phase, module (qualified name, may be empty), operation (of aten)."""

    phase: str = OTHER
    module: str = ""
    operation: str = ""

    @property
    def text(self) -> str:
        """The label as the history's metadata."""
        return _SEPARATOR.join(self)

    @property
    def category(self) -> str:
        """What kind of memory the operation's result is, as far as the label tells."""
        computed = "activations" if self.phase in (FORWARD, RECOMPUTE) else "other"
        return _KNOWN.get(self.operation, computed)

    @property
    def names_result(self) -> bool:
        """Whether the result's memory may carry another label, or a library's memory beside it this one."""
        with_workspace = self.operation in WITH_WORKSPACE and self.category == "activations"
        return with_workspace or self.operation in _KNOWN

    def __str__(self) -> str:
        """Say it in words, as in "backward of features.3: convolution_backward"."""
        words = {RECOMPUTE: "recomputing", OTHER: ""}.get(self.phase, self.phase)
        if self.module:
            words += f" {self.module}" if self.phase == RECOMPUTE else f" of {self.module}"
        return ": ".join(filter(None, (words, self.operation))) or "between operations"


NOTHING = Label()  # between a step and the next operation
UNTOLD = Label(phase="")  # by a text of somebody else


def read(text: str) -> Label:
    """Read a label out of the history's metadata."""
    parts = text.split(_SEPARATOR)
    return Label(*parts) if len(parts) == 3 else UNTOLD
