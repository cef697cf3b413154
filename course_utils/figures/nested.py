"""What nested objects hold: the one walk over lists, tuples and dicts, and over what hangs on modules."""

from collections import ChainMap
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all that lists, tuples and dicts hold, however deep, or else the value itself.

    Each comes with its path, as in "batch['images'][0]"; `path` is what the whole is called.
    """
    if isinstance(value, list | tuple | Mapping):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from walk(item, f"{path}[{key!r}]")
    else:
        yield path, value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in `value`, also those in lists, tuples and dicts.

    It knows no paths, and so is fast enough to be asked at each operation of a training.
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict) or (hasattr(value, "keys") and isinstance(value, Mapping)):
        yield from tensors_in(list(value.values()))


def parameters_of(module: nn.Module) -> Iterator[Tensor]:
    """Yield the parameters of a module, also of DataParallel's replicas, which keep theirs elsewhere."""
    replicas = (vars(child).get("_former_parameters", {}).values() for child in module.modules())
    return chain(module.parameters(), *replicas)


class Stray(NamedTuple):
    """What `module` does not register: the tensor, module or optimizer `leaf`, at `path` from the outermost.

    `value` is the module's attribute: `leaf` itself or what holds it. The class may have it, not the module.
    """

    path: str
    leaf: Tensor | nn.Module | Optimizer
    module: nn.Module
    attribute: str
    value: Any


def strays(module: nn.Module) -> Iterator[Stray]:
    """Yield what hangs on a module, or on its class, where `.to()` and `state_dict()` leave it out."""
    known = {id(item) for item in chain(parameters_of(module), module.buffers(), module.modules())}
    for prefix, child in module.named_modules():
        for attribute, value in ChainMap(vars(child), *map(vars, type(child).__mro__)).items():
            for path, leaf in walk(value, f"{prefix}.{attribute}".lstrip(".")):
                if isinstance(leaf, Tensor | nn.Module | Optimizer) and id(leaf) not in known:
                    yield Stray(path, leaf, child, attribute, value)
