"""What lies where: turns the reader's named objects into blocks, one per object and device.

Memory is counted once: a second name for it becomes a line in the block that owns it. Blocks hold text and
numbers only, so a drawing keeps no tensor alive.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

GROUP_ABOVE = 4  # a container with more tensors than this on one device is one block
_OBJECT = Tensor | nn.Module | Optimizer
_REGISTERED = {
    "_parameters",
    "_buffers",
    "_modules",
    "_former_parameters",
}  # the last: in DataParallel's replicas


@dataclass
class Block:
    """One object, or the part of it that lies on one device.

    Attributes:
        root: the name the reader gave to the object that this belongs to.
        names: what the block is called; several for one tensor with several names.
        device: "cpu", "cuda:0", ...
        rows: lines of (left, right) text below the name.
        nbytes: its memory in bytes; None where that is unknown or still to come.
        tensor: the `id` of the tensor, if the block is one tensor.
        planned: nothing is there yet: a replica that each forward makes.
    """

    root: str
    names: list[str]
    device: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    nbytes: int | None = None
    tensor: int | None = None
    planned: bool = False

    @property
    def title(self) -> str:
        return ", ".join(self.names)

    @property
    def size(self) -> str:
        return "" if self.nbytes is None else format_bytes(self.nbytes)


def format_bytes(nbytes: float) -> str:
    """Return `nbytes` in the binary unit that fits, as in "242.2 KiB"."""
    for unit, digits in (("B", 0), ("KiB", 1), ("MiB", 1), ("GiB", 1)):
        if round(nbytes, digits) < 1024:
            return f"{nbytes:.{digits}f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def find_blocks(named: Mapping[str, Any]) -> list[Block]:
    """Return the blocks of tensors, modules, optimizers, and of lists, tuples and dicts of them, in order.

    Raises:
        TypeError: a value is none of these.
    """
    finder = _Finder()
    for name in sorted(named, key=lambda name: _rank(name, named[name])):
        finder.add(name, name, named[name])
    order = list(named)
    return sorted(finder.blocks, key=lambda block: order.index(block.root))


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


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield each tensor, module and optimizer in `value` with its path, as in "batch['images']"."""
    if isinstance(value, _OBJECT):
        yield path, value
    elif isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _leaves(f"{path}[{key!r}]", item)


def _parameters(module: nn.Module) -> list[Tensor]:
    """Return the parameters that exist, also those of DataParallel's replicas, which keep them elsewhere."""
    replicas = (vars(child).get("_former_parameters", {}).values() for child in module.modules())
    return [tensor for tensor in chain(module.parameters(), *replicas) if not is_lazy(tensor)]


def _strays(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield what hangs on a module without being registered: `.to()` and `state_dict()` leave it out."""
    known = {id(item) for item in chain(_parameters(module), module.buffers(), module.modules())}
    for prefix, child in module.named_modules():
        for attribute, value in vars(child).items():
            if attribute not in _REGISTERED:
                found = _leaves(f"{prefix}.{attribute}".lstrip("."), value)
                yield from ((path, leaf) for path, leaf in found if id(leaf) not in known)


def _memory(tensor: Tensor) -> tuple[tuple[str, int], int | None, int | None]:
    """Return a key for the memory behind `tensor`, the bytes it uses there, and all bytes there."""
    device = str(tensor.device)
    if tensor.is_meta:
        return (device, id(tensor)), 0, 0
    if tensor.layout is not torch.strided:
        return (device, id(tensor)), None, None
    storage = tensor.untyped_storage()
    return (device, storage.data_ptr() or id(tensor)), min(tensor.nbytes, storage.nbytes()), storage.nbytes()


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


class _Finder:
    """Collects blocks and remembers which of them owns which memory."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.owners: dict[tuple[str, int], Block] = {}
        self.modules: set[int] = set()

    def add(self, root: str, name: str, value: Any, note: str = "") -> None:
        """Add `value`; `note` is a last line that says what is special about it."""
        if isinstance(value, Tensor):
            self.add_tensor(root, name, value, note)
        elif isinstance(value, Optimizer):
            self.add_optimizer(root, name, value)
        elif isinstance(value, nn.Module):
            self.add_module(root, name, value, note)
        else:
            self.add_container(root, name, value)

    def add_tensor(self, root: str, name: str, tensor: Tensor, note: str = "") -> None:
        key, nbytes, whole = _memory(tensor)
        owner = self.owners.get(key)
        if owner is None:
            row = (str(tuple(tensor.shape)), _dtype(tensor))
            block = Block(root, [name], key[0], [row], nbytes, tensor=id(tensor))
            if whole != nbytes:
                block.rows.append((f"view into {format_bytes(whole)}", ""))
            block.rows += [(note, "")] if note else []
            self.owners[key] = block
            self.blocks.append(block)
        elif owner.tensor == id(tensor):
            owner.names.append(name)
        else:
            word = "view" if tensor._is_view() else "shared"
            owner.rows.append((f"{name}: {word} {tuple(tensor.shape)}", ""))

    def add_module(self, root: str, name: str, module: nn.Module, note: str) -> None:
        if id(module) in self.modules:
            return
        self.modules.add(id(module))
        head = type(module).__name__
        if isinstance(module, DataParallel | DistributedDataParallel):
            head += f"({type(module.module).__name__})"
        parameters = _parameters(module)
        parts = [("parameters", tensor) for tensor in parameters]
        parts += [("buffers", tensor) for tensor in module.buffers()]
        parts += [
            ("gradients", tensor.grad) for tensor in parameters if tensor.is_leaf and tensor.grad is not None
        ]
        dtypes = sorted({_dtype(tensor) for tensor in parameters})
        self.add_parts(root, name, (head, " ".join(dtypes)), parts, note)
        for path, stray in _strays(module):
            self.add(root, f"{name}.{path}", stray, "not registered")
        if isinstance(module, DataParallel):
            for index in module.device_ids[1:]:
                row = ("made in each forward", "")
                device = f"{module.src_device_obj.type}:{index}"
                self.blocks.append(Block(root, [f"replica of {name}"], device, [row], planned=True))

    def add_optimizer(self, root: str, name: str, optimizer: Optimizer) -> None:
        state = [item for values in optimizer.state.values() for item in values.items()]
        parts = [(key, leaf) for key, value in state for _, leaf in _leaves(key, value)]
        device = str(optimizer.param_groups[0]["params"][0].device)
        self.add_parts(root, name, (type(optimizer).__name__, ""), parts, device=device)

    def add_container(self, root: str, name: str, value: Any) -> None:
        tensors: dict[str, list[tuple[str, Tensor]]] = defaultdict(list)
        for path, leaf in _leaves(name, value):
            if isinstance(leaf, Tensor):
                tensors[str(leaf.device)].append((path, leaf))
            else:
                self.add(root, path, leaf)
        for device, found in tensors.items():
            if len(found) > GROUP_ABOVE:
                parts = (("", tensor) for _, tensor in found)
                self.add_parts(root, name, (f"{len(found)} tensors", ""), parts, device=device)
            else:
                for path, tensor in found:
                    self.add_tensor(root, path, tensor)

    def add_parts(
        self,
        root: str,
        name: str,
        head: tuple[str, str],
        parts: Iterable[tuple[str, Tensor]],
        note: str = "",
        device: str = "cpu",
    ) -> None:
        """Add one block per device for tensors that belong together, with their bytes by category.

        If all of them have an owner already, or there are none, one block on `device` says so.
        """
        sizes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        blocks: dict[str, Block] = {}
        for category, tensor in parts:
            key, _, nbytes = _memory(tensor)
            device = key[0]
            if key not in self.owners:
                self.owners[key] = blocks.setdefault(device, Block(root, [name], device, [head]))
                sizes[device][category] += nbytes or 0
        for where, categories in sizes.items():
            rows = [(category, format_bytes(nbytes)) for category, nbytes in categories.items() if category]
            blocks[where].rows += rows
            blocks[where].nbytes = sum(categories.values())
        if not blocks:
            blocks[device] = Block(root, [name], device, [head, ("no memory of its own", "")], 0)
        for block in blocks.values():
            block.rows += [(note, "")] if note else []
            self.blocks.append(block)
