"""Tensors that are made of virtual ones, such as a DTensor: they say that they are where their parts are.

To C++ they are on the CPU, as a virtual tensor is: the autograd engine has no place for others.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch

from .machine import Machine, active, is_active, operator
from .startup.sitecustomize import when_imported

_real_device = torch.Tensor.device


def _tell(cls: Any, home: Callable[[Any], torch.device]) -> None:
    """Let the tensors of a class say where they are."""
    cls.device = property(home)
    cls.is_cuda = property(lambda tensor: home(tensor).type == "cuda")
    cls.is_cpu = property(lambda tensor: home(tensor).type == "cpu")
    cls.get_device = lambda tensor: -1 if tensor.is_cpu else home(tensor).index


def _making(real: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Wrap what makes a tensor of a subclass, so that one on a GPU is on the CPU to C++."""

    def make(cls: Any, *args: Any, device: Any = None, **options: Any) -> torch.Tensor:
        home = None if device is None else active().device(device)
        if home is None or home.type != "cuda":
            return real(cls, *args, **({} if device is None else {"device": device}), **options)
        made = real(cls, *args, device="cpu", **options)
        made._home = home
        if "device" not in vars(cls):
            _tell(cls, lambda tensor: vars(tensor).get("_home") or _real_device.__get__(tensor))
        return made

    return make


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): the function that makes them."""
    torch._C._ensureCUDADeviceGuardSet()  # for fake tensors: C++ would ask the driver where there is no GPU
    yield torch.Tensor, "_make_wrapper_subclass", staticmethod(_making(torch.Tensor._make_wrapper_subclass))


def _draw_apart(random: Any) -> None:
    """Let each part of a DTensor have random numbers of its own, and replicas the same.

    On CUDA each part has its range of one stream, which the stream here cannot skip to.
    """
    real = random.OffsetBasedRNGTracker._distribute_region

    @contextmanager
    def region(self: Any, spec: Any, generator: Any = None) -> Iterator[None]:
        if not (is_active() and self.distribute_region_enabled):
            with real(self, spec, generator):
                yield
            return
        part = self._calc_shard_linear_idx(*random._calc_shard_info(spec.mesh.get_coordinate(), spec))
        seed = int(torch.randint(2**62, (), device="cuda", generator=generator))
        stream = generator or active().generators[active().current]
        after = stream.get_state()
        stream.set_state(torch.Generator().manual_seed(seed + part).get_state())
        try:
            yield
        finally:
            stream.set_state(after)

    random.OffsetBasedRNGTracker._distribute_region = region


def _shard_attention(tensor: Any) -> None:
    """Let the CPU's attention, which stands in for CUDA's, be computed batch by batch and head by head."""
    register = import_module("torch.distributed.tensor.experimental").register_sharding
    places = tensor.Replicate(), tensor.Shard(0), tensor.Shard(1)
    name = "_scaled_dot_product_flash_attention_for_cpu"

    def parts(results: int, tensors: int) -> Callable[..., Any]:
        return lambda *given, **_: [
            ([place] * results, [place] * tensors + [None] * (len(given) - tensors)) for place in places
        ]

    register(operator(name))(parts(2, 3))
    register(operator(f"{name}_backward"))(parts(3, 6))


when_imported("torch.distributed.tensor", _shard_attention)
when_imported("torch.distributed.tensor._random", _draw_apart)
when_imported(
    "torch.distributed.tensor._api",
    lambda api: _tell(api.DTensor, lambda tensor: tensor._local_tensor.device),
)
