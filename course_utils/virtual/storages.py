"""Storages: a virtual GPU's is host memory that says where it is. Saving and loading follow from that.

`torch.save` gets plain tensors whose storages say `cuda:N`. So the file is the one that a real GPU writes: it
loads with the default `weights_only=True`, needs `map_location` on a machine without GPUs, and opens on a
real GPU.
"""

from collections.abc import Iterator
from typing import Any

import torch

from .errors import refusal
from .machine import Machine, active

_real_data_ptr = torch.UntypedStorage.data_ptr
_real_device = torch.UntypedStorage.device
_real_new = torch.UntypedStorage.__new__
_real_resize = torch.UntypedStorage.resize_
_real_to = torch.UntypedStorage.to


def _new(cls: type, *args: Any, device: Any = None, **options: Any) -> torch.UntypedStorage:
    """`torch.UntypedStorage(nbytes, device=...)`, which storages of all types are made of."""
    home = None if device is None else active().device(device)
    if home is None or home.type != "cuda":
        return _real_new(cls, *args, device=device, **options)
    storage = _real_new(cls, *args, **options)
    active().charge(storage, home.index)
    return storage


def _data_ptr(storage: torch.UntypedStorage) -> int:
    """`UntypedStorage.data_ptr()`: on a virtual GPU the address that its allocator gave."""
    address = active().address(storage)
    return _real_data_ptr(storage) if address is None else address


def _device(storage: torch.UntypedStorage) -> torch.device:
    """`UntypedStorage.device`: the device that it is charged to."""
    index = active().home(storage)
    return _real_device.__get__(storage) if index is None else torch.device("cuda", index)


def _to(storage: torch.UntypedStorage, *, device: Any, non_blocking: bool = False) -> torch.UntypedStorage:
    """`UntypedStorage.to`, which `torch.load` calls, and `.cuda(i)`: a copy on the device."""
    home = active().device(device)
    if home.type != "cuda" or home == storage.device:
        return _real_to(storage, device=home, non_blocking=non_blocking)
    return torch.UntypedStorage(storage.nbytes(), device=home).copy_(storage)


def _resize(storage: torch.UntypedStorage, size: int) -> torch.UntypedStorage:
    """`UntypedStorage.resize_`, by which FSDP frees parameters and takes their memory again."""
    index = active().home(storage)
    if index is not None:
        active().demand(size, index)
    _real_resize(storage, size)
    if index is not None:
        active().charge(storage, index)
    return storage


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): what a storage tells, and its way to another device."""
    yield torch.UntypedStorage, "__new__", _new
    yield torch.UntypedStorage, "_share_cuda_", refusal("torch.UntypedStorage._share_cuda_")
    yield torch.UntypedStorage, "data_ptr", _data_ptr
    yield torch.UntypedStorage, "device", property(_device)
    yield torch.UntypedStorage, "to", _to
    yield torch.UntypedStorage, "resize_", _resize
