"""`torch.cuda.FloatTensor` and its like: the types of tensors before there were dtypes."""

from collections.abc import Iterator
from typing import Any

import torch

from .machine import Machine
from .moves import cuda
from .tensor import VirtualTensor

_NAMES = "Float Double Half BFloat16 Byte Char Short Int Long Bool"


class _LegacyType(type):
    """The type of such a type: a virtual tensor of its dtype is an instance."""

    dtype: torch.dtype

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, VirtualTensor) and instance.dtype is cls.dtype

    def __call__(cls, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Make a tensor on the current GPU: of a size, or of numbers."""
        return cuda(getattr(torch, cls.__name__)(*args, **kwargs))


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value) for each type."""
    for name in (f"{prefix}Tensor" for prefix in _NAMES.split()):
        facts = {"dtype": getattr(torch, name).dtype, "is_cuda": True, "__module__": "torch.cuda"}
        yield torch.cuda, name, _LegacyType(name, (), facts)
