"""Random numbers on virtual GPUs.

A device shares the CPU's stream of random numbers, so that a model trains to the very numbers it reaches on
the CPU. `torch.cuda.manual_seed` gives the device a stream of its own; `torch.manual_seed` ends that.
"""

import sys
import weakref
from collections.abc import Iterator
from typing import Any

import torch

from .errors import refusal
from .machine import Machine, active

_RealGenerator = torch.Generator
# C++ hands on a generator without its Python side: where each of a GPU is, by its address there
_homes: dict[int, torch.device] = {}


class _CudaGenerator(_RealGenerator):
    """A generator that says it is on a virtual GPU; while it is not its `own`, it is the CPU's stream."""

    own = True

    def __new__(cls, device: torch.device) -> "_CudaGenerator":
        generator = super().__new__(cls)
        generator._home = _homes[generator._cdata] = device
        weakref.finalize(generator, _homes.pop, generator._cdata, None)
        return generator

    @property
    def device(self) -> torch.device:
        return self._home

    def get_state(self) -> torch.Tensor:
        return super().get_state() if self.own else torch.get_rng_state()

    def set_state(self, state: torch.Tensor) -> "_CudaGenerator":
        (super().set_state if self.own else torch.set_rng_state)(_state_of(state))
        return self

    def manual_seed(self, seed: int) -> "_CudaGenerator":
        self.own = True
        return super().manual_seed(seed)

    def seed(self) -> int:
        self.own = True
        return super().seed()


for _name in ("get_offset", "set_offset", "graphsafe_get_state", "graphsafe_set_state", "clone_state"):
    setattr(_CudaGenerator, _name, refusal(f"torch.Generator.{_name}"))


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
        return _CudaGenerator(torch.device(device))


def _state_of(value: Any) -> torch.Tensor:
    """Return a random state; raise PyTorch's error for one that lies on a GPU."""
    if isinstance(value, torch.Tensor) and value.is_cuda:
        raise TypeError("RNG state must be a torch.ByteTensor")
    return value


def _manual_seed_all(seed: int) -> None:
    """`torch.cuda.manual_seed_all`; inside `torch.manual_seed` it puts devices on the CPU's stream."""
    by_torch = sys._getframe(1).f_globals["__name__"] == "torch.random"
    for generator in active().generators:
        generator.manual_seed(int(seed))
        generator.own = not by_torch


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): seeds, states and generators."""
    machine.generators = tuple(_CudaGenerator(torch.device("cuda", i)) for i in range(machine.count))
    for generator in machine.generators:
        generator.manual_seed(torch.initial_seed())
        generator.own = False
    real = torch.set_rng_state
    for owner in (torch, torch.random):
        yield owner, "set_rng_state", lambda state: real(_state_of(state))
    for owner in (torch.cuda, torch.cuda.random):
        yield owner, "manual_seed_all", _manual_seed_all
    yield torch.cuda, "default_generators", machine.generators
    yield torch, "Generator", Generator
