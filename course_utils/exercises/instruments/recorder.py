"""What an answer did while it was tried: the functions of PyTorch it called, the operations they came to."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import Mock, patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from course_utils.figures.nested import tensors_in
from course_utils.virtual.machine import listeners

CPU = torch.device("cpu")
_NO_WORK = ("_unsafe_view", "_reshape_alias", "empty", "empty_like", "empty_strided", "new_empty")
_CROSSING = ("_to_copy", "copy_", "_local_scalar_dense")
_WAITS = {"__bool__": "if", "__repr__": "print", "_local_scalar_dense": "number"}


class Copy(NamedTuple):
    """A copy from one device to another."""

    source: torch.device
    target: torch.device
    nbytes: int


class Operation(NamedTuple):
    """One operation that was done. It holds no tensor, so that recording takes no memory of a GPU.

    Attributes:
        name: such as "addmm"; of a copy by a virtual GPU, or of waiting, the method's: "to", "synchronize".
        copies: made between devices, also the silent ones of CPU tensors that an operation takes to a GPU.
        wait: why Python waited for a GPU: for a number in an "if", a "print" or elsewhere ("number"), for a
            copy ("cpu", "to_gpu"), for the "size" of a result, to "synchronize"; "" where it did not.
        launch: whether a GPU gets something to do: not for a view, nor for empty memory.
        flop: multiplications and additions, 0 where PyTorch's counter has no formula.
        numbers: how many the largest tensor has, argument or result.
        results: device and size, in numbers, of each tensor that came out.
        moment: what the record was asked to note at that time.
    """

    name: str
    copies: Sequence[Copy] = ()
    wait: str = ""
    launch: bool = False
    flop: int = 0
    numbers: int = 0
    results: Sequence[tuple[torch.device, int]] = ()
    moment: Any = None


class Record(TorchDispatchMode):
    """What was done with PyTorch while this mode was on.

    Attributes:
        calls: names of the functions that were called, with the devices that they were given: "to cpu".
        operations: what they came to, forward and backward, in order.
    """

    def __init__(self, moment: Callable[[], Any]) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.operations: list[Operation] = []
        self._moment = moment

    def add(self, name: str, copies: Sequence[Copy] = (), wait: str = "", **more: Any) -> None:
        """Note an operation."""
        self.operations.append(Operation(name, copies, wait, moment=self._moment(), **more))

    def add_crossing(self, method: str, source: torch.Tensor, result: torch.Tensor | None) -> None:
        """Note what a virtual GPU did without PyTorch's modes."""
        copies = _copies("copy_", [source], [] if result is None else [result])
        self.add(method, copies, _why_waiting(method, copies))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note an operation; one that is made of others, as in inference mode, by its parts."""
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        formula = flop_registry.get(func.overloadpacket)
        if formula is None:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        given = list(tensors_in((args, kwargs)))
        result = func(*args, **kwargs)
        made = list(tensors_in(result))
        copies = _copies(name, given, made)
        called = self.calls[-1] if self.calls else ""
        wait = _why_waiting(called if called in _WAITS else name, copies)
        asks_for_size = torch.Tag.dynamic_output_shape in func.tags and given[0].is_cuda
        if name == "index":
            asks_for_size &= any(tensor.dtype == torch.bool for tensor in given[1:])  # a mask
        self.add(
            name,
            copies,
            wait or "size" * asks_for_size,
            launch=not (func.is_view or name in _NO_WORK),
            flop=formula(*args, **kwargs, out_val=result) if formula else 0,
            numbers=max((tensor.numel() for tensor in given + made), default=0),
            results=[(tensor.device, tensor.numel()) for tensor in made],
        )
        return result

    @property
    def flop(self) -> int:
        """The multiplications and additions that PyTorch's counter counts."""
        return sum(operation.flop for operation in self.operations)

    @property
    def copies(self) -> list[Copy]:
        """All copies from one device to another."""
        return [copy for operation in self.operations for copy in operation.copies]

    @property
    def host(self) -> list[int]:
        """The bytes of each copy between host memory and a GPU, either way."""
        return [copy.nbytes for copy in self.copies if CPU in (copy.source, copy.target)]


@contextmanager
def recording(moment: Callable[[], Any] = lambda: None) -> Iterator[Record]:
    """Record what is done with PyTorch in a `with` block, on real and on virtual GPUs.

    Args:
        moment: called after each operation; what it returns is noted with it.
    """
    record = Record(moment)
    with ExitStack() as stack:
        for owner in (torch.cuda, torch.accelerator, torch.cuda.Stream, torch.cuda.Event):
            wait = Mock(side_effect=lambda *_: record.add("synchronize", wait="synchronize"))
            stack.enter_context(patch.object(owner, "synchronize", wait))
        listeners.append(record.add_crossing)
        stack.callback(listeners.remove, record.add_crossing)
        stack.enter_context(_Calls(record.calls))
        yield stack.enter_context(record)


class _Calls(TorchFunctionMode):
    """Notes the functions that are called."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self._calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.device:  # a name, no computation
            places = [str(one) for one in (*args, *kwargs.values()) if isinstance(one, str | torch.device)]
            self._calls.append(" ".join([getattr(func, "__name__", ""), *places]))
        return func(*args, **kwargs)


def _copies(name: str, given: list[torch.Tensor], made: list[torch.Tensor]) -> list[Copy]:
    """Return what an operation copies from one device to another."""
    if name in _CROSSING:
        source, target = given[-1], made[0].device if made else CPU  # a number is on the host
        if source.device == target:
            return []
        return [Copy(source.device, target, (source if target == CPU else made[0]).nbytes)]
    gpu = next((tensor.device for tensor in given if tensor.is_cuda), None)
    on_host = [tensor for tensor in given if tensor.device == CPU and tensor.dim()]  # one number is no copy
    return [Copy(CPU, gpu, tensor.nbytes) for tensor in on_host] if gpu else []


def _why_waiting(name: str, copies: list[Copy]) -> str:
    """Return why Python waits where these copies are made, "" where it does not."""
    for source, target, _ in copies:
        if CPU in (source, target):
            return "to_gpu" if source == CPU else _WAITS.get(name, "cpu")
    return ""
