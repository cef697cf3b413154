"""Several processes: what goes over NCCL is carried by gloo.

Each process has virtual GPUs of its own, all of them, although a rank should only use `cuda:LOCAL_RANK`;
what another rank holds is not seen here. An operation of `torch.distributed` that meets virtual tensors
arrives in `_run`, which gives the inner tensors to a carrier: a process group of the same ranks over gloo.
"""

import os
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import distributed as dist
from torch.distributed import distributed_c10d
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils._python_dispatch import TorchDispatchMode

from .errors import WORDS
from .machine import Machine, active
from .tensor import VirtualTensor, view, wrap

_c10d = torch._C._distributed_c10d
_NAMESPACES = ("c10d::", "_c10d_functional::", "_dtensor::shard_dim_alltoall")
_PREMULTIPLIED = int(dist.ReduceOp.PREMUL_SUM)


class Carrier:
    """The process group over gloo that carries a group's virtual tensors."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        backend = group._get_backend(torch.device("cuda"))
        carrier = dist.ProcessGroup(group.get_group_store(), group.rank(), group.size())
        carrier._register_backend(torch.device("cpu"), dist.ProcessGroup.BackendType.GLOO, backend)
        carrier._set_default_backend(dist.ProcessGroup.BackendType.GLOO)
        self.name = f"{group.group_name} of virtual GPUs"
        _c10d._register_process_group(self.name, carrier)
        self.group, self.devices = carrier, set[torch.device]()
        self.nccl = "nccl" in dist.get_backend_config(group)


_carriers: "weakref.WeakKeyDictionary[dist.ProcessGroup, Carrier]" = weakref.WeakKeyDictionary()


def carrier_of(group: dist.ProcessGroup) -> Carrier:
    """Return what carries a group; it is made when first asked for."""
    if group not in _carriers:
        _carriers[group] = Carrier(group)
    return _carriers[group]


def _group_of(value: Any) -> dist.ProcessGroup:
    """Return the process group that an operator was given: itself, or its name."""
    if isinstance(value, torch.ScriptObject):
        return dist.ProcessGroup.unbox(value)
    return distributed_c10d._resolve_process_group(value) if isinstance(value, str) else value


def _run(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Run an operation of torch.distributed on virtual tensors."""
    machine = active()
    machine.check()
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    tensors = [leaf for leaf in tree_leaves(given) if isinstance(leaf, torch.Tensor)]
    for name in given.keys() & {"process_group", "group_name"}:
        group = _group_of(given[name])
        carrier = carrier_of(group)
        _check(func, group, carrier, tensors)
        _count(machine, func, group, given)
        given[name] = carrier.group.boxed() if name == "process_group" else carrier.name
    same = {id(tensor._inner): tensor for tensor in tensors}
    inner = tree_map_only(VirtualTensor, lambda tensor: tensor._inner, given)
    result = func(**inner)
    home = tensors[0].device
    return tree_map_only(
        torch.Tensor, lambda one: same[id(one)] if id(one) in same else wrap(one, home), result
    )


def _check(func: Any, group: dist.ProcessGroup, carrier: Carrier, tensors: list[torch.Tensor]) -> None:
    """Raise NCCL's error for tensors that a group cannot take; the first time on a device, ask the others."""


def _count(machine: Machine, func: Any, group: dist.ProcessGroup, given: dict[str, Any]) -> None:
    """Add up the bytes that this rank sends."""


class _Options(SimpleNamespace):
    """`ProcessGroupNCCL.Options`: how to set NCCL up, which changes nothing here."""

    def __init__(self, is_high_priority_stream: bool = False) -> None:
        super().__init__(is_high_priority_stream=is_high_priority_stream, config=SimpleNamespace())


class ProcessGroupNCCL(dist.ProcessGroupGloo):
    """The backend of a group for virtual GPUs."""

    Options = _Options

    def __init__(self, store: dist.Store, rank: int, size: int, options: _Options, device: Any = None):
        super().__init__(store, rank, size, options._timeout)


class _Buckets(TorchDispatchMode):
    """Puts what `DistributedDataParallel` makes in C++, to collect gradients in, on its GPU."""

    def __init__(self, home: torch.device) -> None:
        super().__init__()
        self.home = home

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for_gpu = func is torch.ops.aten.empty.memory_format and (kwargs or {}).get("device") is not None
        return wrap(made, self.home) if for_gpu else made  # where it means the CPU it names no device


class Reducer(dist.Reducer):
    """What sums gradients up for `DistributedDataParallel`."""

    def __init__(self, parameters: list[torch.Tensor], *args: Any, **kwargs: Any) -> None:
        virtual = isinstance(parameters[0], VirtualTensor)
        self._buckets = _Buckets(parameters[0].device) if virtual else nullcontext()
        with self._buckets:
            super().__init__(parameters, *args, **kwargs)

    def _rebuild_buckets(self) -> bool:
        with self._buckets:
            return super()._rebuild_buckets()


def _verify(real: Callable[..., None]) -> Callable[..., None]:
    """Wrap the comparison of all ranks' parameters, which needs shapes alone."""

    def verify(group: dist.ProcessGroup, parameters: Any, logger: Any = None) -> None:
        virtual = isinstance(parameters[0], VirtualTensor)
        real(carrier_of(group).group if virtual else group, parameters, logger)

    return verify


def _on_gpu(value: Any) -> Any:
    """Return what an operation of gloo gave, where it belongs."""

    def find(tensor: torch.Tensor) -> torch.Tensor:
        index = active().home(tensor.untyped_storage())
        return tensor if index is None else view(tensor, torch.device("cuda", index))

    return tree_map_only(torch.Tensor, find, value)


def _copy_options(options: Any, memo: Any) -> Any:
    """Copy gloo's options, as `split_group` does with NCCL's."""
    copy = type(options)()
    copy._devices, copy._timeout = options._devices, options._timeout
    return copy


def kernels() -> dict[Any, Callable[..., Any]]:
    """Return what runs each operator of torch.distributed."""
    found = {}
    for name in torch._C._dispatch_get_all_op_names():
        if name.startswith(_NAMESPACES):
            packet, _, overload = name.partition(".")
            namespace, _, packet = packet.partition("::")
            func = getattr(getattr(getattr(torch.ops, namespace), packet), overload or "default")
            found[func] = partial(_run, func)
    return found


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): the backend, and what is done in C++ with tensors of its own."""
    yield distributed_c10d, "_NCCL_AVAILABLE", True
    for name in ("ProcessGroupNCCL", "ProcessGroupNCCL2"):
        yield distributed_c10d, name, ProcessGroupNCCL
    yield dist, "ProcessGroupNCCL", ProcessGroupNCCL
    yield distributed_c10d, "_get_split_source", lambda *_: None  # a part of a group is a group of its own
    yield dist, "Reducer", Reducer
    yield dist, "_verify_params_across_processes", _verify(dist._verify_params_across_processes)
    result, future = dist.Work.result, dist.Work.get_future
    yield dist.Work, "result", lambda work: _on_gpu(result(work))
    yield dist.Work, "get_future", lambda work: future(work).then(lambda done: _on_gpu(done.value()))
    yield dist.ProcessGroupGloo._Options, "__deepcopy__", _copy_options
