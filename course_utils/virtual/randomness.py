"""Random numbers on virtual GPUs.

A device shares the CPU's stream of random numbers, so that a model trains to the very numbers it reaches on
the CPU. `torch.cuda.manual_seed` gives the device a stream of its own; `torch.manual_seed` ends that.
"""

import sys
import weakref
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

    def set_state(self, state: torch.Tensor) -> "_CudaGenerator":
        return super().set_state(_state_of(state))


# C++ hands on a generator without its Python side: where each of a GPU is, by its address there
_homes: dict[int, torch.device] = {}


def home_of(generator: _RealGenerator) -> torch.device:
    """Return the device of a generator, also of one that has been through C++."""
    return _homes.get(generator._cdata, generator.device)


class _GeneratorType(type):
    """Lets `isinstance(g, torch.Generator)` hold for every generator, also for those made before."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _RealGenerator)


class Generator(metaclass=_GeneratorType):
    """`torch.Generator(device)`, also for a virtual GPU."""

    def __new__(cls, device: Any = "cpu") -> _RealGenerator:
        if active().device(device).type != "cuda":
            return _RealGenerator(device)
        return _generator(torch.device(device))


def _generator(device: torch.device) -> _CudaGenerator:
    generator = _CudaGenerator()
    generator._home = _homes[generator._cdata] = device
    weakref.finalize(generator, _homes.pop, generator._cdata, None)
    return generator


def _state_of(value: Any) -> torch.Tensor:
    """Return a random state; raise PyTorch's error for one that lies on a GPU."""
    if isinstance(value, torch.Tensor) and value.is_cuda:
        raise TypeError("RNG state must be a torch.ByteTensor")
    return value


def _functions(machine: Machine) -> dict[str, Any]:
    """The `torch.cuda` functions about seeds and states."""
    own, generators = machine.own_stream, machine.generators

    def manual_seed(seed: int) -> None:
        generators[machine.current].manual_seed(int(seed))
        own[machine.current] = True

    def manual_seed_all(seed: int) -> None:
        by_torch = sys._getframe(1).f_globals["__name__"] == "torch.random"  # inside torch.manual_seed
        for generator in generators:
            generator.manual_seed(int(seed))
        own[:] = [not by_torch] * machine.count

    def get_rng_state(device: Any = "cuda") -> torch.Tensor:
        index = machine.device(device).index
        return generators[index].get_state() if own[index] else torch.get_rng_state()

    def set_rng_state(state: torch.Tensor, device: Any = "cuda") -> None:
        index = machine.device(device).index
        (generators[index].set_state if own[index] else torch.set_rng_state)(_state_of(state))

    return {
        "manual_seed": manual_seed,
        "manual_seed_all": manual_seed_all,
        "seed": lambda: manual_seed(torch.seed()),
        "seed_all": lambda: manual_seed_all(torch.seed()),
        "initial_seed": lambda: generators[machine.current].initial_seed(),
        "get_rng_state": get_rng_state,
        "set_rng_state": set_rng_state,
        "get_rng_state_all": lambda: [get_rng_state(i) for i in range(machine.count)],
        "set_rng_state_all": lambda new: [set_rng_state(state, i) for i, state in enumerate(new)],
    }


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): seeds, states and generators."""
    machine.generators = tuple(_generator(torch.device("cuda", i)) for i in range(machine.count))
    for generator in machine.generators:
        generator.manual_seed(torch.initial_seed())
    for name, function in _functions(machine).items():
        yield torch.cuda, name, function
        yield torch.cuda.random, name, function
    real = torch.set_rng_state
    for owner in (torch, torch.random):
        yield owner, "set_rng_state", lambda state: real(_state_of(state))
    yield torch.cuda, "default_generators", machine.generators
    yield torch, "Generator", Generator
