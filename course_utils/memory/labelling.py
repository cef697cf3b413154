"""Labelling: while it is on, every operation of every thread puts its label on the memory history.

A label is put together when an operation starts: from the module whose forward is running or, in the backward
pass, from the module that made the autograd node that is running.
"""

import itertools
import math
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.cuda.memory import _get_memory_metadata, _set_memory_metadata
from torch.nn.modules import module as module_hooks
from torch.nn.parallel import DataParallel
from torch.optim import Optimizer
from torch.optim import optimizer as optimizer_hooks
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from course_utils.figures.nested import parameters_of, tensors_in
from course_utils.virtual.machine import active, is_active

from .labels import ACCUMULATE, BACKWARD, FORWARD, FROM_HOST, NOTHING, OTHER, RECOMPUTE, STEP, Label
from .marks import Marks

_NODE_KEY = "course_utils module"
_now_signing = itertools.count(1).__next__


class Frame(NamedTuple):
    """A module's forward, or an optimizer's step, that is running in this thread.

    Attributes:
        owner: the `id` of the module or optimizer; a step that raised shall keep nothing alive.
        task: the backward pass around it, -1 if there is none.
        first_node: the autograd nodes it makes have this number or a higher one, within its thread.
        began: what `_now_signing` counted when it began.
        new_thread: the labeller is on in this thread from here only.
    """

    owner: int
    phase: str
    name: str
    task: int | None
    first_node: int = 0
    began: int = 0
    new_thread: bool = False


class Labeller(TorchDispatchMode):
    """Labels each operation of its thread, and of the backward passes started there, below autograd.

    Args:
        named: the reader's objects; the parts of modules are called after them.
        marks: are told what comes by.
    """

    def __init__(self, named: Mapping[str, Any], marks: Marks) -> None:
        super().__init__()
        self.marks = marks
        self._names: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        modules = {name: value for name, value in named.items() if isinstance(value, nn.Module)}
        for name, module in modules.items():
            self._names.update(module_names(module, name, len(modules) > 1))
        self._parallel = self._replicas = ""  # names of the last nn.DataParallel and of what it copies
        self._thread = threading.local()
        self._owner = threading.get_ident()

    def switch_on(self, stack: ExitStack) -> None:
        """Have everything labelled until `stack` is closed, which puts everything back."""
        stack.callback(_set_memory_metadata, _get_memory_metadata())
        stack.enter_context(module_hooks.register_module_forward_pre_hook(self._enter))
        stack.enter_context(module_hooks.register_module_forward_hook(self._leave, always_call=True))
        stack.enter_context(optimizer_hooks.register_optimizer_step_pre_hook(self._step))
        stack.enter_context(optimizer_hooks.register_optimizer_step_post_hook(self._after_step))
        stack.enter_context(self)

    # ---- operations -----------------------------------------------------------------------------------
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        __tracebackhide__ = True
        if func.namespace == "profiler":
            return func(*args, **(kwargs or {}))
        label = self._label(_operation(func, args), args)
        _set_memory_metadata(label.text)
        result = func(*args, **(kwargs or {}))
        if threading.get_ident() != self._owner and torch._C._current_graph_task_id() != -1:
            _set_memory_metadata("")  # the autograd engine's own threads outlive the block
        if label.names_result:
            self.marks.add(result, label.category, sure=label.operation != FROM_HOST)
        return result

    def _label(self, operation: str, args: Any) -> Label:
        """Return the label of an operation that starts now in this thread."""
        frame, task = self.frames[-1], torch._C._current_graph_task_id()
        if frame.task == task:
            recompute = task != -1 and frame.phase == FORWARD
            return Label(RECOMPUTE if recompute else frame.phase, frame.name, operation)
        if task != -1:  # in the backward pass each node knows its module
            node = torch._C._current_autograd_node()
            last = node is not None and node.name() == "torch::autograd::AccumulateGrad"
            name = "" if node is None else node.metadata.get(_NODE_KEY, ("",))[0]
            return Label(BACKWARD, name, ACCUMULATE if last else operation)
        learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors_in(args))
        if learns and operation == "ones_like":
            return Label(BACKWARD, "", operation)  # backward() makes its first gradient
        return Label(FORWARD if learns else OTHER, "", operation)

    # ---- modules and optimizers -----------------------------------------------------------------------
    @property
    def frames(self) -> list[Frame]:
        """What runs in this thread, the innermost last; the first one stands for nothing."""
        return self._thread.__dict__.setdefault("frames", [Frame(0, OTHER, "", None)])

    def _enter(self, module: nn.Module, args: Any) -> None:
        if not any(frame.phase == FORWARD for frame in self.frames):  # then it is the outermost of its thread
            replica = getattr(module, "_is_replica", False)
            if module not in self._names:
                for part, name in module_names(module, self._replicas if replica else "").items():
                    self._names.setdefault(part, name)
            if replica:  # what moved its inputs and parameters here is no part of it
                _sign([*tensors_in(args), *parameters_of(module)], self._parallel)
            self.marks.own(module)
            self.marks.add(args, "inputs", sure=replica)  # a replica is called with parts of a batch
        name = self._names.get(module, type(module).__name__)
        if isinstance(module, DataParallel):
            self._parallel, self._replicas = name, self._names.get(module.module, "")
        new = self not in _get_current_dispatch_mode_stack()  # modes belong to one thread
        if new:
            self.__enter__()
        task, first = torch._C._current_graph_task_id(), torch.autograd._get_sequence_nr()
        self.frames.append(Frame(id(module), FORWARD, name, task, first, _now_signing(), new))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.frames[-1].owner != id(module):
            return  # another hook raised before this module was entered
        frame = self.frames.pop()
        _sign(tensors_in(output), frame.name, frame.first_node, frame.began)
        if frame.new_thread:
            self.__exit__(None, None, None)
            _set_memory_metadata("")

    def _step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.marks.own(optimizer)
        task = torch._C._current_graph_task_id()
        self.frames.append(Frame(id(optimizer), STEP, type(optimizer).__name__, task))

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        # also the frames of steps that raised, and so never ended
        self.frames[:] = [frame for frame in self.frames if frame.owner != id(optimizer)]
        self.marks.own(optimizer)
        _set_memory_metadata(NOTHING.text)


def module_names(root: nn.Module, name: str = "", full: bool = False) -> dict[nn.Module, str]:
    """Return the qualified name of each module in `root`, such as "features.3".

    Args:
        name: what the reader calls it. The parts of a bare `nn.Sequential` are numbers only: they get it as
            their first part, or else the name of the class.
        full: give it to every part.
    """
    inner = root.module if isinstance(root, DataParallel) else root  # replicas know no "module." either
    first = name or type(inner).__name__
    names = {root: name or type(root).__name__}
    for path, module in inner.named_modules():
        alone = path and not full and not path.replace(".", "").isdigit()
        names.setdefault(module, path if alone else f"{first}.{path}".rstrip("."))
    return names


def _sign(tensors: Iterable[Tensor], name: str, first: int = 0, began: float = math.inf) -> None:
    """Write a module's name on the autograd nodes behind `tensors`, where no other has signed before.

    Args:
        tensors: the results of the module's forward.
        first: nodes with a lower number than this are not its own.
        began: neither are those, and all behind them, that were signed earlier than this; `_now_signing`
            counts. Without it, only the nodes that made `tensors` are signed.
    """
    nodes, seen = [tensor.grad_fn for tensor in tensors], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen or node._sequence_nr() < first:
            continue
        seen.add(node)
        if node.metadata.setdefault(_NODE_KEY, (name, _now_signing()))[1] > began:
            nodes.extend(following for following, _ in node.next_functions)


def _operation(func: Any, args: Any) -> str:
    """Return the operator's name, or FROM_HOST for what brings data from the host's memory."""
    name = func.overloadpacket.__name__
    source = {"_to_copy": 0, "copy_": 1}.get(name)
    from_host = name == "lift_fresh" or (source is not None and _on_host(args[source]))
    return FROM_HOST if from_host else name


def _on_host(tensor: Tensor) -> bool:
    """Tell whether `tensor` is in the host's memory; the numbers of a virtual GPU are, and do not count."""
    if tensor.device.type != "cpu":
        return False
    return not is_active() or active().home(tensor.untyped_storage()) is None
