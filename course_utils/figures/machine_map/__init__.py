"""The map: a drawing of host and GPU memory with the reader's own tensors, modules and batches in it.

`placement.py` finds out what lies where, `layout.py` gives it a place on the page, `drawing.py` draws it.
"""

from .drawing import MachineMap, draw_machine

__all__ = ["MachineMap", "draw_machine"]
