"""`torch.cuda` and `torch.accelerator` for virtual GPUs: which devices there are, which is current."""

import functools
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import torch
from torch.cuda._utils import _get_device_index
from torch.utils._pytree import tree_leaves

from . import streams
from .errors import CARD, CARDS, LIMITS, WORDS
from .machine import Machine
from .tensor import VirtualTensor

_real_compile = torch.compile


def _facts(card: str | None) -> dict[str, Any]:
    """Return what a virtual GPU tells about itself: name, compute capability, and what follows."""
    if card is None:
        return CARD
    major, minor = CARDS[card]["capability"]
    threads, shared, per_block = LIMITS[f"{major}.{minor}"]
    return CARD | {
        "name": f"Virtual {card} (CPU)",
        "gcnArchName": f"Virtual {card} (CPU)",
        "major": major,
        "minor": minor,
        "max_threads_per_multi_processor": threads,
        "shared_memory_per_multiprocessor": shared * 1024,
        "shared_memory_per_block_optin": per_block * 1024,
    }


def _devices(machine: Machine) -> dict[str, Any]:
    """`torch.cuda`: which devices there are and which is current."""
    facts = _facts(machine.card)

    def properties(number: int) -> SimpleNamespace:
        place = {"uuid": UUID(int=number), "pci_bus_id": number}
        return SimpleNamespace(**facts, **place, total_memory=machine.capacity)

    def init() -> None:
        machine.begun = True
        if not machine.broken:  # a broken GPU still tells about itself
            machine.check()

    def at_once(change: Callable[[], None], **_: Any) -> None:
        begun = machine.is_begun()
        change()
        machine.begun = begun  # CUDA keeps this until it begins

    def exchange(device: int) -> int:
        before = machine.current
        if device >= 0:
            machine.current = device
        return before

    def free_and_total(device: Any = None) -> tuple[int, int]:
        number = machine.valid(_get_device_index(device, optional=True))
        return machine.capacity - machine.memory[number].reserved, machine.capacity

    return {
        "mem_get_info": free_and_total,
        "is_available": lambda: True,
        "_initialized": True,
        "is_initialized": lambda: machine.is_begun() and not machine.forked,
        "_is_compiled": lambda: True,
        "_lazy_init": init,
        "_lazy_call": at_once,
        "device_count": lambda: machine.count,
        "_cached_device_count": machine.count,
        "_exchange_device": exchange,
        "_maybe_exchange_device": lambda device: exchange(device),  # Dynamo tells the two apart
        "_get_device_properties": properties,
        "get_arch_list": lambda: [f"sm_{facts['major']}{facts['minor']}"],
        "is_bf16_supported": lambda including_emulation=True: including_emulation or facts["major"] >= 8,
        "utilization": lambda device=None: 0,
    }


def _accelerator(machine: Machine, cuda: dict[str, Any]) -> dict[str, Any]:
    """The C functions below `torch.cuda` and `torch.accelerator`; their Python layers stay as they are."""

    def select(index: int) -> None:
        machine.current, machine.begun = index, True

    return {
        "_accelerator_getAccelerator": lambda: torch.device("cuda"),
        "_get_accelerator": lambda check=None: torch.device("cuda"),
        "_cuda_getDevice": lambda: machine.current,
        "_cuda_setDevice": select,
        "_accelerator_getDeviceIndex": lambda: machine.current,
        "_accelerator_setDeviceIndex": select,
        "_accelerator_exchangeDevice": cuda["_exchange_device"],
        "_accelerator_maybeExchangeDevice": cuda["_maybe_exchange_device"],
        "_accelerator_getStream": lambda device: torch.cuda.current_stream(device),
        "_accelerator_setStream": lambda stream: torch.cuda.set_stream(stream),
        "_accelerator_synchronizeDevice": lambda device: torch.cuda.synchronize(device),
        "_accelerator_isAllocatorInitialized": lambda: True,
        "_accelerator_emptyHostCache": lambda: None,
        "_accelerator_emptyCache": lambda: torch.cuda.empty_cache(),
        "_accelerator_getDeviceStats": lambda device: torch.cuda.memory_stats_as_nested_dict(device),
        "_accelerator_getMemoryInfo": cuda["mem_get_info"],
        "_accelerator_resetPeakStats": lambda device: torch.cuda.reset_peak_memory_stats(device),
        "_accelerator_resetAccumulatedStats": lambda device: torch.cuda.reset_accumulated_memory_stats(
            device
        ),
        "_cuda_canDeviceAccessPeer": lambda device, peer: device != peer,
        "_cuda_ipc_collect": lambda: None,
    }


def _grouped(lists: Any, with_indices: bool = False) -> dict[Any, Any]:
    """Group the tensors at each position of all lists by device and dtype of the first, for optimizers."""
    groups: dict[Any, Any] = {}
    for index, row in enumerate(zip(*(one or [None] * len(lists[0]) for one in lists), strict=True)):
        group, indices = groups.setdefault((row[0].device, row[0].dtype), ([[] for _ in lists], []))
        for values, value, given in zip(group, row, lists, strict=True):
            values.extend([value] if given else [])
        indices.extend([index] if with_indices else [])
    return groups


def _compile(model: Any = None, **options: Any) -> Any:
    """`torch.compile`: what it makes refuses tensors on a GPU, unless TORCH_COMPILE_DISABLE=1 is set."""
    if model is None:
        return functools.partial(_compile, **options)
    if options.get("disable") or os.environ.get("TORCH_COMPILE_DISABLE") == "1":
        return model
    plain = model if options.get("backend", "inductor") != "inductor" else None  # "eager" compiles nothing
    compiled = _real_compile(model, **options)
    if isinstance(model, torch.nn.Module):
        compiled.forward = _on_the_cpu(compiled.forward, model, plain)
        return compiled
    return _on_the_cpu(compiled, getattr(model, "__self__", None), plain)


def _on_the_cpu(compiled: Callable[..., Any], owner: Any, plain: Callable[..., Any] | None) -> Any:
    """Wrap a compiled function, as a rule of a module; with tensors on a GPU `plain` runs, if it may."""

    @functools.wraps(compiled)
    def run(*args: Any, **kwargs: Any) -> Any:
        state = [*owner.parameters(), *owner.buffers()] if isinstance(owner, torch.nn.Module) else []
        given = (leaf for leaf in tree_leaves((state, args, kwargs)) if isinstance(leaf, torch.Tensor))
        on_gpu = any(tensor.is_cuda for tensor in given)
        if on_gpu and plain is None:
            raise NotImplementedError(WORDS["compiler"])
        return (plain if on_gpu else compiled)(*args, **kwargs)

    return run


def _profiling_the_cpu(profile: type) -> Callable[..., None]:
    """Return how a profiler begins: it looks at the CPU, where all the work is done."""
    real = profile.__init__

    def begin(self: Any, enabled: bool = True, *, use_device: str | None = None, **options: Any) -> None:
        real(self, enabled, use_device=None if use_device == "cuda" else use_device, **options)

    return begin


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value) for `torch.cuda`, `torch.accelerator` and what they share."""
    cuda = _devices(machine)
    for name, value in streams.CLASSES.items():
        yield torch.cuda, name, value
        yield torch.cuda.streams, name, value
    for module in (torch.cuda, torch.cuda.memory, torch.cuda.random):
        for name in cuda if module is torch.cuda else cuda.keys() & vars(module).keys():
            yield module, name, cuda[name]
    for name, value in (_accelerator(machine, cuda) | streams.functions(machine)).items():
        yield torch._C, name, value
    yield torch.cuda.graphs, "_cuda_isCurrentStreamCapturing", lambda: False
    yield torch, "Stream", streams.Stream
    yield torch, "Event", streams.Event
    yield torch, "compile", _compile
    yield torch.backends.mha, "get_fastpath_enabled", lambda: False  # it makes nested tensors
    yield torch.backends.cudnn, "is_acceptable", lambda tensor: False  # RNNs run their CPU kernels
    yield torch._C, "_group_tensors_by_device_and_dtype", _grouped
    yield torch.autograd.profiler.profile, "__init__", _profiling_the_cpu(torch.autograd.profiler.profile)
    for module in ("torch.optim.optimizer", "torch.utils._foreach_utils"):  # on CUDA, foreach is the default
        known = import_module(module)
        yield known, "_foreach_supported_types", [*known._foreach_supported_types, VirtualTensor]
