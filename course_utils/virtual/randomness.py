"""Random numbers on virtual GPUs.

A device shares the CPU's stream of random numbers, so that a model trains to the very numbers it reaches on
the CPU. `torch.cuda.manual_seed` gives the device a stream of its own; `torch.manual_seed` ends that.
"""

import sys
from collections.abc import Iterator
from typing import Any

import torch

from .machine import Machine, active

_RealGenerator = torch.Generator


class _CudaGenerator(_RealGenerator):
    """A generator that says it is on a virtual GPU."""

    @property
    def device(self) -> torch.device:
        return self._home


class _GeneratorType(type):
    """Lets `isinstance(g, torch.Generator)` hold for every generator, also for those made before."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _RealGenerator)


class Generator(metaclass=_GeneratorType):
    """`torch.Generator(device)`, also for a virtual GPU."""

    def __new__(cls, device: Any = "cpu") -> _RealGenerator:
        home = active().device(device)
        if home.type != "cuda":
            return _RealGenerator(device)
        generator = _CudaGenerator()
        generator._home = torch.device(device)
        return generator


def _seeded(seed: int) -> torch.Tensor:
    """Return the state of a CPU generator with this seed."""
    return _RealGenerator().manual_seed(int(seed)).get_state()


def _functions(machine: Machine) -> dict[str, Any]:
    """The `torch.cuda` functions about seeds and states."""
    states = machine.random_state

    def manual_seed(seed: int) -> None:
        states[machine.current] = _seeded(seed)

    def manual_seed_all(seed: int) -> None:
        by_torch = sys._getframe(1).f_globals["__name__"] == "torch.random"  # inside torch.manual_seed
        states[:] = [None if by_torch else _seeded(seed) for _ in states]

    def get_rng_state(device: Any = "cuda") -> torch.Tensor:
        own = states[machine.device(device).index]
        return torch.get_rng_state() if own is None else own.clone()

    def set_rng_state(state: torch.Tensor, device: Any = "cuda") -> None:
        index = machine.device(device).index
        if states[index] is None:
            torch.set_rng_state(state)
        else:
            states[index] = state.clone()

    return {
        "manual_seed": manual_seed,
        "manual_seed_all": manual_seed_all,
        "seed": lambda: manual_seed(torch.seed()),
        "seed_all": lambda: manual_seed_all(torch.seed()),
        "initial_seed": torch.initial_seed,
        "get_rng_state": get_rng_state,
        "set_rng_state": set_rng_state,
        "get_rng_state_all": lambda: [get_rng_state(i) for i in range(machine.count)],
        "set_rng_state_all": lambda new: [set_rng_state(state, i) for i, state in enumerate(new)],
    }


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): seeds, states and generators."""
    for name, function in _functions(machine).items():
        yield torch.cuda, name, function
        yield torch.cuda.random, name, function
    yield torch, "Generator", Generator
