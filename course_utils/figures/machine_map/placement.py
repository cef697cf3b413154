"""What lies where: turns the reader's named objects into blocks, one per object and device.

Memory is counted once: a second name for it becomes a line in the block that owns it. Blocks hold text and
numbers only, so a drawing keeps no tensor alive.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from ..nested import parameters_of, strays, tensors_in, walk

UNREGISTERED = ("not registered", "")  # the last row of what a module's `.to()` leaves behind
GROUP_ABOVE = 4  # a container with more tensors than this on one device is one block


@dataclass(eq=False)
class Block:
    """One object, or the part of it that lies on one device.

    Attributes:
        names: what the block is called; several for one tensor with several names.
        device: "cpu", "cuda:0", ...
        rows: lines of (left, right) text below the name.
        size: its memory as text; empty where that is unknown or still to come.
        tensor: the `id` of the tensor, if the block is one tensor.
        planned: nothing is there yet: a replica that each forward makes.
        lines, y, height: its text made to fit, and its place in its box (inches), set by `layout.lay_out`.
    """

    names: list[str]
    device: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    size: str = ""
    tensor: int | None = None
    planned: bool = False
    lines: list[tuple[str, str]] = field(default_factory=list)
    y: float = 0.0
    height: float = 0.0

    @property
    def title(self) -> str:
        return ", ".join(self.names)


def format_bytes(nbytes: float) -> str:
    """Return `nbytes` in the binary unit that fits, as in "242.2 KiB"."""
    for unit, digits in (("B", 0), ("KiB", 1), ("MiB", 1), ("GiB", 1)):
        if round(nbytes, digits) < 1024:
            return f"{nbytes:.{digits}f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def find_blocks(named: Mapping[str, Any]) -> dict[str, list[Block]]:
    """Return the blocks of each named tensor, module, optimizer, or list, tuple or dict of them.

    Raises:
        TypeError: a value is none of these.
    """
    finder = _Finder()
    owners_first = sorted(named, key=lambda name: _rank(name, named[name]))
    found = {name: list(finder.find(name, named[name])) for name in owners_first}
    return {name: found[name] for name in named}


def _rank(name: str, value: Any) -> int:
    """Say who owns memory that several names share: modules, then tensors, then containers, then views."""
    if isinstance(value, nn.Module | Optimizer):
        return 0
    if isinstance(value, Tensor):
        return 3 if value._is_view() else 1
    if isinstance(value, Mapping | list | tuple):
        return 2
    raise TypeError(
        f"{name} is a {type(value).__name__}; the map shows tensors, modules, optimizers, "
        "and lists, tuples and dicts of them."
    )


def _memory(tensor: Tensor) -> tuple[tuple[str, int], int | None]:
    """Return a key for the memory behind `tensor`, and all bytes there; None where that is unknown."""
    device = str(tensor.device)
    if tensor.is_meta or tensor.layout is not torch.strided:
        return (device, id(tensor)), 0 if tensor.is_meta else None
    storage = tensor.untyped_storage()
    return (device, storage.data_ptr() or id(tensor)), storage.nbytes()


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


class _Finder:
    """Finds blocks and remembers which of them owns which memory."""

    def __init__(self) -> None:
        self.owners: dict[tuple[str, int], Block] = {}
        self.modules: set[int] = set()

    def find(self, name: str, value: Any) -> Iterator[Block]:
        """Yield the blocks of `value`, or of all that it holds; many tensors on one device are one block."""
        tensors: dict[str, list[tuple[str, Tensor]]] = defaultdict(list)
        for path, leaf in walk(value, name):
            if isinstance(leaf, Tensor):
                tensors[str(leaf.device)].append((path, leaf))
            elif isinstance(leaf, Optimizer):
                yield from self._optimizer(path, leaf)
            elif isinstance(leaf, nn.Module) and id(leaf) not in self.modules:
                self.modules.add(id(leaf))
                yield from self._module(path, leaf)
        for device, found in tensors.items():
            if len(found) > GROUP_ABOVE:
                parts = [("", tensor) for _, tensor in found]
                yield from self._group(name, (f"{len(found)} tensors", ""), parts, device)
            else:
                for path, tensor in found:
                    yield from self._tensor(path, tensor)

    def _tensor(self, name: str, tensor: Tensor) -> Iterator[Block]:
        key, whole = _memory(tensor)
        shape, owner = str(tuple(tensor.shape)), self.owners.get(key)
        if owner is None:
            size = "" if whole is None else format_bytes(min(tensor.nbytes, whole))
            owner = self.owners[key] = Block([name], key[0], [(shape, _dtype(tensor))], size, id(tensor))
            if whole and tensor.nbytes < whole:
                owner.rows.append((f"view into {format_bytes(whole)}", ""))
            yield owner
        elif owner.tensor == id(tensor):
            owner.names.append(name)
        else:
            owner.rows.append((f"{name}: {'view' if tensor._is_view() else 'shared'} {shape}", ""))

    def _module(self, name: str, module: nn.Module) -> Iterator[Block]:
        parallel = isinstance(module, DataParallel)
        head = f"DataParallel({type(module.module).__name__})" if parallel else type(module).__name__
        parameters = [tensor for tensor in parameters_of(module) if not is_lazy(tensor)]
        gradients = (tensor.grad for tensor in parameters if tensor.is_leaf and tensor.grad is not None)
        kinds = {"parameters": parameters, "buffers": module.buffers(), "gradients": gradients}
        parts = ((kind, tensor) for kind, tensors in kinds.items() for tensor in tensors)
        dtypes = " ".join(sorted({_dtype(tensor) for tensor in parameters}))
        yield from self._group(name, (head, dtypes), parts, "cpu")
        for stray in strays(module):
            own = stray.attribute in vars(stray.module)
            for block in self.find(f"{name}.{stray.path}", stray.leaf) if own else ():
                if UNREGISTERED not in block.rows:
                    block.rows.append(UNREGISTERED)
                yield block
        for index in module.device_ids[1:] if parallel else ():
            device = f"{module.src_device_obj.type}:{index}"
            yield Block([f"replica of {name}"], device, [("made in each forward", "")], planned=True)

    def _optimizer(self, name: str, optimizer: Optimizer) -> Iterator[Block]:
        state = (item for values in optimizer.state.values() for item in values.items())
        parts = ((key, tensor) for key, value in state for tensor in tensors_in(value))
        device = str(optimizer.param_groups[0]["params"][0].device)
        yield from self._group(name, (type(optimizer).__name__, ""), parts, device)

    def _group(
        self, name: str, head: tuple[str, str], parts: Iterable[tuple[str, Tensor]], device: str
    ) -> Iterable[Block]:
        """Return one block per device for tensors that belong together, with their bytes by kind.

        If all of them have an owner already, or there are none, one block says so, on the last tensor's
        device or else on `device`.
        """
        blocks: dict[str, Block] = {}
        sizes: dict[str, Counter[str]] = defaultdict(Counter)
        for kind, tensor in parts:
            key, nbytes = _memory(tensor)
            device = key[0]
            if key not in self.owners:
                self.owners[key] = blocks.setdefault(device, Block([name], device, [head]))
                sizes[device][kind] += nbytes or 0
        for where, block in blocks.items():
            block.size = format_bytes(sizes[where].total())
            block.rows += [(kind, format_bytes(nbytes)) for kind, nbytes in sizes[where].items() if kind]
        nothing = Block([name], device, [head, ("no memory of its own", "")], "0 B")
        return blocks.values() or [nothing]
