"""Saving and loading: a file written on a virtual GPU is the file a real GPU writes.

`torch.save` gets plain tensors whose storages are tagged `cuda:N`. So the file loads with the default
`weights_only=True`, needs `map_location` on a machine without GPUs, and opens on a real GPU.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import serialization

from .machine import Machine, active, is_active
from .tensor import wrap

_real_rebuild = torch._utils._rebuild_tensor


def _tag(storage: Any) -> str | None:
    """Return 'cuda:N' for a storage that lives on a virtual GPU."""
    if not is_active():
        return None
    plain = storage._untyped_storage if hasattr(storage, "_untyped_storage") else storage
    index = active().home(plain)
    return None if index is None else f"cuda:{index}"


def _restore(storage: Any, location: str) -> Any:
    """Put a loaded storage on the virtual GPU its tag names."""
    if not is_active() or not location.startswith("cuda"):
        return None
    index = serialization._validate_device(location, "cuda")
    index = active().current if index is None else getattr(index, "index", index)
    active().charge(storage, index)
    return storage


def _rebuild_tensor(storage: Any, *layout: Any) -> torch.Tensor:
    """Rebuild a tensor; on a virtual GPU if its storage was put there."""
    plain = storage._untyped_storage if hasattr(storage, "_untyped_storage") else storage
    index = active().home(plain)
    tensor = _real_rebuild(storage, *layout)
    return tensor if index is None else wrap(tensor, active().device(index))


def _to_gpu(storage: Any, device: Any = None, non_blocking: bool = False) -> Any:
    """`storage.cuda(i)`, as some `map_location` functions call it: a copy that lives on GPU `i`."""
    copy = storage.clone()
    active().charge(copy, active().device(device).index)
    return copy


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): the registry of storage locations, and the function that rebuilds."""
    registry = [(0, _tag, _restore), *serialization._package_registry]
    yield serialization, "_package_registry", registry
    yield torch._utils, "_rebuild_tensor", _rebuild_tensor
    yield torch.UntypedStorage, "cuda", _to_gpu
