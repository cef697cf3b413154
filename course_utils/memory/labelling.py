"""Labelling: while it is on, every operation of every thread puts its label on the memory history.

A label is put together when an operation starts: from the module whose forward is running or, in the backward
pass, from the module that made the autograd node that is running.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.cuda.memory import _get_memory_metadata, _set_memory_metadata
from torch.nn.modules import module as module_hooks
from torch.optim import Optimizer
from torch.optim import optimizer as optimizer_hooks
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from .labels import (
    FORWARD,
    OTHER,
    RECOMPUTE,
    STEP,
    Label,
    backward_label,
    module_names,
    operation_name,
    sign,
    tensors_in,
)


class Watcher(Protocol):
    """Who wants to know what comes by."""

    def entering(self, module: nn.Module, args: Any) -> None:
        """Come before the outermost module call of a thread."""

    def stepping(self, optimizer: Optimizer) -> None:
        """Come before an optimizer's step."""

    def stepped(self, optimizer: Optimizer) -> None:
        """Come after an optimizer's step."""

    def computed(self, label: Label, args: Any, result: Any) -> None:
        """Come after an operation."""


class Frame(NamedTuple):
    """A module's forward, or an optimizer's step, that is running in this thread.

    Attributes:
        owner: the module or optimizer.
        first_node: the autograd nodes it makes have this number or a higher one.
        task: the backward pass around it, -1 if there is none.
        mode: what this frame switched on for its thread.
    """

    owner: Any
    phase: str
    name: str
    first_node: int
    task: int
    mode: "Operations | None" = None


class Labeller:
    """Keeps the label up to date in every thread, between `on()` and its end.

    Args:
        given: the reader's modules and their names.
        watcher: is told what comes by.
    """

    def __init__(self, given: Mapping[str, nn.Module], watcher: Watcher) -> None:
        self.watcher = watcher
        self._names: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        for name, module in given.items():
            self._names.update(module_names(module, name, len(given) > 1))
        self._thread = threading.local()
        self._owner = threading.get_ident()
        self.running = False

    @property
    def frames(self) -> list[Frame]:
        """What runs in this thread, the innermost last."""
        return self._thread.__dict__.setdefault("frames", [])

    @contextmanager
    def on(self) -> Iterator[None]:
        """Have everything labelled; put everything back at the end."""
        with ExitStack() as stack:
            stack.callback(_set_memory_metadata, _get_memory_metadata())
            handles = (
                module_hooks.register_module_forward_pre_hook(self._enter),
                module_hooks.register_module_forward_hook(self._leave, always_call=True),
                optimizer_hooks.register_optimizer_step_pre_hook(self._step),
                optimizer_hooks.register_optimizer_step_post_hook(self._after_step),
            )
            for handle in handles:
                stack.callback(handle.remove)
            stack.enter_context(Operations(self))
            stack.callback(setattr, self, "running", False)
            self.running = True
            self.start(Label())
            yield

    def label(self, operation: str, args: Any) -> Label:
        """Return the label of an operation that starts now in this thread."""
        frame = self.frames[-1] if self.frames else None
        task = torch._C._current_graph_task_id()
        if frame is not None and frame.task == task:
            recompute = task != -1 and frame.phase == FORWARD
            return Label(RECOMPUTE if recompute else frame.phase, frame.name, operation)
        if task != -1:
            return backward_label(operation)
        learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors_in(args))
        learns = learns and not operation.endswith("_like")  # as backward() makes its first gradient
        return Label(FORWARD if learns else OTHER, "", operation)

    @staticmethod
    def start(label: Label) -> None:
        """Let the history's entries of this thread carry `label` from now on."""
        _set_memory_metadata(label.text)

    def end(self) -> None:
        """Leave no label in the autograd engine's own threads: they outlive the block."""
        if threading.get_ident() != self._owner and torch._C._current_graph_task_id() != -1:
            _set_memory_metadata("")

    # ---- modules --------------------------------------------------------------------------------------
    def _name(self, module: nn.Module) -> str:
        if module not in self._names and not any(frame.phase == FORWARD for frame in self.frames):
            for part, name in module_names(module).items():
                self._names.setdefault(part, name)
        return self._names.get(module) or type(module).__name__

    def _enter(self, module: nn.Module, args: Any) -> None:
        if not any(frame.phase == FORWARD for frame in self.frames):
            self.watcher.entering(module, args)
        mode = None
        if not any(isinstance(mode, Operations) for mode in _get_current_dispatch_mode_stack()):
            mode = Operations(self)  # a thread of DataParallel's: modes belong to one thread
            mode.__enter__()
        task, first = torch._C._current_graph_task_id(), torch.autograd._get_sequence_nr()
        self.frames.append(Frame(module, FORWARD, self._name(module), first, task, mode))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self.frames or self.frames[-1].owner is not module:
            return  # another hook raised before this module was entered
        frame = self.frames.pop()
        sign(output, frame.name, frame.first_node)
        if frame.mode is not None:
            frame.mode.__exit__(None, None, None)
            _set_memory_metadata("")

    # ---- optimizers -----------------------------------------------------------------------------------
    def _step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._forget(optimizer)  # a step that raised never ended
        self.watcher.stepping(optimizer)
        task = torch._C._current_graph_task_id()
        self.frames.append(Frame(optimizer, STEP, type(optimizer).__name__, 0, task))

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._forget(optimizer)
        self.watcher.stepped(optimizer)
        self.start(Label())

    def _forget(self, optimizer: Optimizer) -> None:
        self.frames[:] = [frame for frame in self.frames if frame.owner is not optimizer]


class Operations(TorchDispatchMode):
    """Sees every operation of its thread, and of the backward passes started there, below autograd."""

    def __init__(self, labeller: Labeller) -> None:
        super().__init__()
        self.labeller = labeller

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        __tracebackhide__ = True
        if not self.labeller.running or func.namespace == "profiler":
            return func(*args, **(kwargs or {}))
        label = self.labeller.label(operation_name(func, args), args)
        self.labeller.start(label)
        result = func(*args, **(kwargs or {}))
        self.labeller.watcher.computed(label, args, result)
        self.labeller.end()
        return result
