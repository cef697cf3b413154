"""The device checks of RNN, LSTM and GRU, which CUDA makes before it runs them."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from .errors import WORDS, refuse
from .machine import Machine


def _check(given: torch.Tensor, hidden: Any, weights: Any) -> None:
    """Raise CUDA's error when hidden state or parameters are not where the input is."""
    hidden = hidden if isinstance(hidden, (list, tuple)) else [hidden]
    for what, tensors in (("hidden", hidden), ("parameter", weights)):
        for tensor in tensors:
            if tensor.device != given.device:
                refuse(WORDS["recurrent"].format(what, given.device, what, tensor.device))


def _checked(real: Callable[..., Any]) -> Callable[..., Any]:
    def run(given: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 8:  # (hidden, weights, ...); a packed sequence: (batch_sizes, hidden, weights, ...)
            packed = isinstance(args[0], torch.Tensor) and isinstance(args[2], (list, tuple))
            hidden, weights = args[1:3] if packed else args[:2]
            _check(given, hidden, weights)
        return real(given, *args, **kwargs)

    return run


def replacements(machine: Machine) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value) for the recurrent functions below `torch.nn`."""
    for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        yield torch._VF, name, _checked(getattr(torch._VF, name))
