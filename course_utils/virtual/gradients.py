"""Zero gradients of custom autograd functions, on the right device.

For an output that no loss depends on, the autograd engine makes zeros where C++ believes the output is: on
the CPU. `nn.DataParallel` meets them for unused parameters. They are moved before `backward` sees them.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import BackwardCFunction

from .errors import WORDS, refuse
from .machine import Machine, active
from .tensor import VirtualTensor, set_grad

_real_apply = torch.autograd.Function.__dict__["apply"]
_real_run = torch.autograd._engine_run_backward
_real_backward = BackwardCFunction.apply
_real_grad = torch.Tensor.grad


def _apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """`Function.apply`, which also notes where each output is."""
    result = _real_apply.__get__(None, cls)(*args, **kwargs)
    outputs = result if isinstance(result, tuple) else (result,)
    homes = [output.device if isinstance(output, VirtualTensor) else None for output in outputs]
    if any(homes):
        node = next((o.grad_fn for o in outputs if isinstance(o, VirtualTensor) and o.requires_grad), None)
        if isinstance(node, BackwardCFunction):  # not of a view that was changed in place
            node._homes = homes
            node._stream = torch.cuda.current_stream(next(filter(None, homes)))
            node._input_homes = [a.device if isinstance(a, torch.Tensor) else None for a in args]
    return result


def _backward(self: Any, *gradients: Any) -> Any:
    """Run `backward` with every gradient where its output is, on that device and the stream of `forward`."""
    homes = getattr(self, "_homes", None)
    if homes is not None:
        gradients = tuple(
            gradient.to(home) if home is not None and gradient is not None and gradient.is_cpu else gradient
            for gradient, home in zip(gradients, homes, strict=True)
        )
    with torch.cuda.stream(getattr(self, "_stream", None)):
        result = _real_backward(self, *gradients)
    if homes is not None:
        _check_returned(self, result if isinstance(result, tuple) else (result,))
    return result


def _check_returned(node: Any, gradients: tuple[Any, ...]) -> None:
    """Raise PyTorch's error for a gradient that is not where its input is."""
    for position, (gradient, home) in enumerate(zip(gradients, node._input_homes, strict=False)):
        if isinstance(gradient, torch.Tensor) and home is not None and gradient.device != home:
            text = WORDS["invalid_gradient"].format(position, home, gradient.device)
            raise RuntimeError(f"Function {type(node).__name__} returned an {text}")


class _Grad(property):
    """`Tensor.grad` of tensors on the CPU; the compiler of PyTorch 2.10 asks what it belongs to."""

    __name__, __objclass__ = "grad", torch._C.TensorBase


def _is_batched(tensor: torch.Tensor) -> bool:
    """Tell whether this is `vmap`'s tensor, which does not know where its parts are."""
    return "Batched" in repr(torch._C._dispatch_keys(tensor))


def _run(tensors: Any, gradients: Any, *args: Any, **kwargs: Any) -> Any:
    """Start the engine, with gradients that are where their tensors are."""
    for position, (tensor, gradient) in enumerate(zip(tensors, gradients, strict=False)):
        if gradient is None or not isinstance(tensor, torch.Tensor) or _is_batched(gradient):
            continue
        if gradient.device != tensor.device:
            refuse(WORDS["invalid_gradient"].format(position, tensor.device, gradient.device))
    results = _real_run(tensors, gradients, *args, **kwargs)
    inputs = args[2] if len(args) > 2 else kwargs.get("inputs", ())
    return _at_home(results, inputs) if results and len(results) == len(inputs) else results


def _at_home(gradients: tuple[Any, ...], inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Put the gradients that the engine made itself where their inputs are."""

    def moved(gradient: Any, given: Any) -> Any:
        if type(given) is not VirtualTensor or gradient is None:
            return gradient
        # `vmap` shows no parts: those on the CPU are taken in when something on the GPU is added to all
        return gradient + given.new_zeros(()) if _is_batched(gradient) else gradient.to(given.device)

    with active().allowing("taking_in"):
        return tuple(map(moved, gradients, inputs))


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value): the two ends of a custom autograd function."""
    yield torch.autograd.Function, "apply", classmethod(_apply)
    yield torch.autograd, "_engine_run_backward", _run
    yield torch.Tensor, "grad", _Grad(_real_grad.__get__, set_grad, _real_grad.__delete__)
    yield BackwardCFunction, "apply", _backward
