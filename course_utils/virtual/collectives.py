"""Several processes: what goes over NCCL is carried by gloo.

Each process has virtual GPUs of its own, all of them, although a rank should only use `cuda:LOCAL_RANK`;
what another rank holds is not seen here. An operation of `torch.distributed` that meets virtual tensors
arrives in `_run`, which gives the inner tensors to a carrier: a process group of the same ranks over gloo.
"""

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import distributed as dist
from torch.distributed import distributed_c10d
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from .errors import WORDS, refuse
from .machine import Machine, active
from .tensor import VirtualTensor, type_name, view, wrap

_c10d = torch._C._distributed_c10d
_NAMESPACES = ("c10d::", "_c10d_functional::", "_dtensor::shard_dim_alltoall")
_KINDS = "all_reduce all_gather reduce_scatter all_to_all broadcast gather scatter reduce".split()
_KINDS += ["recvanysource", "send", "recv", "barrier"]
_REDUCING = "allreduce allreduce_coalesced reduce reduce_scatter _reduce_scatter_base reduce_scatter_single"
_NOT_IN_NCCL = (torch.int16, torch.uint16, torch.uint32, torch.uint64)
_reducing = threading.local()  # the factor of the operation that this thread is in; whether it averages


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
        self.coalesced: list[dist.Work] | None = None  # what was begun since `_start_coalescing`
        self.dividing = False  # the sum under way is to become an average


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
    active().check()
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    tensors = [leaf for leaf in tree_leaves(given) if isinstance(leaf, torch.Tensor)]
    what, home, carrier = _what(func), tensors[0].device, None
    for name in given.keys() & {"process_group", "group_name"}:
        carrier, given = _hand_over(what, name, given, tensors)
    flat = "process_group" in given and what in ("all_gather", "reduce_scatter")  # gloo minds their shapes
    inner = {id(leaf): leaf._inner for leaf in tree_leaves(given) if type(leaf) is VirtualTensor}
    inner = {key: tensor.view(-1) if flat else tensor for key, tensor in inner.items()}
    same = {id(inner[id(tensor)]): tensor for tensor in tensors if id(tensor) in inner}
    given = tree_map_only(VirtualTensor, lambda tensor: inner[id(tensor)], given)
    result = _all_to_all(carrier, **given) if func is torch.ops.c10d.alltoall_.default else func(**given)
    if carrier and carrier.dividing:
        _divide(carrier, result)
    if carrier and carrier.coalesced is not None:
        works = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.ScriptObject)]
        carrier.coalesced += map(dist.Work.unbox, works)
    return tree_map_only(
        torch.Tensor, lambda one: same[id(one)] if id(one) in same else wrap(one, home), result
    )


def _hand_over(
    what: str, name: str, given: dict[str, Any], tensors: list[torch.Tensor]
) -> tuple[Carrier, dict[str, Any]]:
    """Check and count what a group is given; return its carrier, and the arguments with that in its place."""
    group = _group_of(given[name])
    carrier = carrier_of(group)
    if carrier.nccl:
        _check(what, group, carrier, tensors)
    sent = _sent(what, group, given)
    active().sent[what] += sum(tensor.nbytes for tensor in sent)
    if getattr(_reducing, "factor", None) is not None:
        given = _premultiply(given, sent, _reducing.factor)
    if getattr(_reducing, "average", False) and not sent[0].is_floating_point():
        carrier.dividing, given = True, given | {"reduce_op": torch.classes.c10d.ReduceOp()}
    return carrier, given | {name: carrier.group.boxed() if name == "process_group" else carrier.name}


def _what(func: Any) -> str:
    """Return what an operator does, such as "all_gather": each has several that do it."""
    name = func._schema.name.partition("::")[2].replace("_", "")
    return next((kind for kind in _KINDS if kind.replace("_", "") in name), name)


def _check(what: str, group: dist.ProcessGroup, carrier: Carrier, tensors: list[torch.Tensor]) -> None:
    """Raise NCCL's error for tensors that a group cannot take."""
    if what == "recvanysource":
        refuse(WORDS["nccl_any_source"])
    for tensor in tensors:
        if not tensor.is_cuda or tensor.layout is not torch.strided:
            raise ValueError(WORDS["nccl_dense"])
        if tensor.dtype in _NOT_IN_NCCL:
            refuse(WORDS["nccl_dtype"].format(type_name(tensor)))
        if not tensor.is_contiguous() and what not in ("send", "recv"):
            raise ValueError(WORDS["nccl_contiguous"])
    device = tensors[0].device
    bound = group.bound_device_id
    if bound is not None and device != bound:
        print(WORDS["nccl_found"].format(group.rank(), device, bound), file=sys.stderr)
        raise dist.DistBackendError(WORDS["nccl_bound"])
    if device not in carrier.devices and what not in ("send", "recv", "barrier"):
        _meet(group, carrier, device)


def _meet(group: dist.ProcessGroup, carrier: Carrier, device: torch.device) -> None:
    """Let the ranks of a group know which GPU each takes, as NCCL does when they first meet."""
    rank, meeting, store = group.rank(), len(carrier.devices), group.get_group_store()
    carrier.devices.add(device)
    mine = f"{os.environ.get('GROUP_RANK')}:{device.index}"  # several machines may be imitated on one
    store.set(f"virtual GPU {meeting} of {rank}", mine)
    for other in range(group.size()):
        if other != rank and store.get(f"virtual GPU {meeting} of {other}").decode() == mine:
            raise dist.DistBackendError(WORDS["nccl_duplicate"].format(rank, other, device.index << 12))


def _sent(what: str, group: dist.ProcessGroup, given: dict[str, Any]) -> list[torch.Tensor]:
    """Return the tensors whose numbers this rank gives to the others."""
    root = given.get("root_rank", given.get("src"))
    if what in ("recv", "barrier") or (what == "broadcast" and root != group.rank()):
        return []
    inputs = [value for name, value in given.items() if not name.startswith("out")]
    return [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]


def _premultiply(given: dict[str, Any], sent: list[torch.Tensor], factor: Any) -> dict[str, Any]:
    """Do what `ReduceOp.PREMUL_SUM` does, which gloo does not know: multiply, then sum up."""
    with torch.no_grad():
        if "tensors" in given:  # in place
            for tensor in sent:
                tensor.mul_(factor)
        else:
            ids = {id(tensor) for tensor in sent}
            given = tree_map_only(torch.Tensor, lambda one: one * factor if id(one) in ids else one, given)
    return given | {"reduce_op": torch.classes.c10d.ReduceOp()}


def _divide(carrier: Carrier, result: Any) -> None:
    """Make averages of sums of whole numbers, rounded down to whole ones, which gloo refuses to do."""
    carrier.dividing = False
    for leaf in reversed(tree_leaves(result)):  # the work comes last
        if isinstance(leaf, torch.ScriptObject):
            dist.Work.unbox(leaf).wait()
        else:
            leaf.div_(carrier.group.size(), rounding_mode="trunc")


def _noting_factor(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method of a group that reduces: C++ does not tell the factor of a PREMUL_SUM, nor an average."""

    def run(group: dist.ProcessGroup, *args: Any) -> Any:
        operation = getattr(args[-1], "reduceOp", None)
        _reducing.factor = operation and operation.__getstate__()[1]
        _reducing.average = operation == dist.ReduceOp.AVG
        try:
            return real(group, *args)
        finally:
            _reducing.factor = _reducing.average = None

    return run


def _start_coalescing(group: dist.ProcessGroup, device: torch.device) -> None:
    """Begin a block of operations that are to be waited for together."""
    carrier_of(group).coalesced = []


def _end_coalescing(group: dist.ProcessGroup, device: torch.device) -> dist.Work:
    """Return what waits for all operations of a block."""
    carrier = carrier_of(group)
    works, carrier.coalesced = carrier.coalesced, None
    return _c10d.PythonCallbackWork(lambda timeout: all(work.wait() for work in works))


def _all_to_all(carrier: Carrier, output_tensors: Any, input_tensors: Any, **_: Any) -> Any:
    """Give each rank one tensor, and get one from each: gloo does so with the parts of one tensor."""
    given = torch.cat([tensor.flatten() for tensor in input_tensors])
    sizes, sent = ([tensor.numel() for tensor in each] for each in (output_tensors, input_tensors))
    taken = given.new_empty(sum(sizes))
    work = carrier.group.alltoall_base(taken, given, sizes, sent)
    work.wait()
    for tensor, part in zip(output_tensors, taken.split(sizes), strict=True):
        tensor.copy_(part.view_as(tensor))
    return output_tensors, work.boxed()


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

    def _set_static_graph(self) -> None:
        with self._buckets:
            super()._set_static_graph()


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


def _futures(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `Work.get_future`: the host sees a GPU's as complete, and what follows runs at once."""

    def get(work: dist.Work) -> torch.futures.Future:
        future = torch.futures.Future()
        future.set_result(_on_gpu(real(work).wait()))
        return future

    return get


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
    yield distributed_c10d, "default_pg_nccl_timeout", timedelta(minutes=10)
    for name in ("ProcessGroupNCCL", "ProcessGroupNCCL2", "ProcessGroupNCCLLazy"):
        yield distributed_c10d, name, ProcessGroupNCCL
    yield dist, "ProcessGroupNCCL", ProcessGroupNCCL
    yield distributed_c10d, "_get_split_source", lambda *_: None  # a part of a group is a group of its own
    yield dist, "Reducer", Reducer
    yield dist, "_verify_params_across_processes", _verify(dist._verify_params_across_processes)
    result = dist.Work.result
    yield dist.Work, "result", lambda work: _on_gpu(result(work))
    yield dist.Work, "get_future", _futures(dist.Work.get_future)
    for name in _REDUCING.split():
        if real := getattr(dist.ProcessGroup, name, None):
            yield dist.ProcessGroup, name, _noting_factor(real)
    yield dist.ProcessGroup, "_start_coalescing", _start_coalescing
    yield dist.ProcessGroup, "_end_coalescing", _end_coalescing
    yield dist.ProcessGroupGloo._Options, "__deepcopy__", _copy_options
