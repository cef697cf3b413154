"""The trials of lesson 10: what fits, loading beside the first GPU, and a test that finds faults."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .instruments.placement import peak_of, some_gpus
from .instruments.recorder import CPU
from .lesson import Lesson
from .trying import Seen, mistake_if, same, told

lesson = Lesson("10")
globals().update(lesson.exercises, summary=lesson.summary)


@lesson.trial()
def largest_batch(answer: Any, small: list[int], large: list[int], card: int) -> Any:
    """See which batch size is said to fit."""
    return answer(tuple(small), tuple(large), card)


# ---- loading where the network is ----------------------------------------------------------------------
@lesson.trial([(1,), (0,), (2,)], right=None)
def load_here(answer: Any, number: int) -> None:
    """See where a network is after loading, what it holds, and what that took on the first GPU."""
    with some_gpus(2) as gpus, torch.cuda.device(0), tempfile.TemporaryDirectory() as folder:
        place, path = (*gpus[:2], CPU)[number], Path(folder) / "last.pt"
        saved, net = (nn.Sequential(nn.Linear(40, 30), nn.BatchNorm1d(30)) for _ in range(2))
        torch.save(saved.to(gpus[0]).state_dict(), path)
        net.to(place)
        taken = peak_of(lambda: answer(net, path), gpus[0])
        state, wanted = net.state_dict(), saved.cpu().state_dict()
        places = sorted({str(tensor.device) for tensor in state.values()})
        loaded = same({key: tensor.cpu() for key, tensor in state.items()}, dict(wanted))
    mistake_if(places != [str(place)], "moved", place=place, found=", ".join(places))
    mistake_if(place != gpus[0] and taken > 0, "first_gpu", place=place, nbytes=taken)
    mistake_if(not loaded, "not_loaded")


# ---- the challenge -------------------------------------------------------------------------------------
class _OnCPU(torch.autograd.Function):
    """Gives x, and in backward meets a tensor on the CPU."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * torch.ones(4)


class _Net(nn.Module):
    """Two layers, and what one network does between them."""

    def __init__(self, between: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.between = nn.Linear(6, 4), nn.Linear(4, 2), between
        self.plain = torch.ones(4)
        self.register_buffer("buffer", torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.last(self.between(self, self.first(x)))
        return scores.cpu() if self.between is _to_cpu else scores


def _to_cpu(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Leave x as it is; the network's result goes to the CPU."""
    return x


_SOUND = {
    "which has two layers": lambda net, x: torch.relu(x),
    "which has a buffer": lambda net, x: x * net.buffer,
    "which counts on the GPU of its input": lambda net, x: x + torch.arange(4, device=x.device),
}
_FAULTY = {
    "a tensor that is no buffer": lambda net, x: x * net.plain,
    "a tensor that is always on cuda:0": lambda net, x: x * torch.ones(4, device="cuda:0"),
    "a tensor on the current GPU, which need not be the network's": lambda net, x: x * torch.ones(4).cuda(),
    "a tensor on the CPU in use, after eval()": lambda net, x: x if net.training else x * torch.ones(4),
    "a tensor on the CPU in backward": lambda net, x: _OnCPU.apply(x),
    "a result on the CPU": _to_cpu,
    "a batch size that is written down": lambda net, x: x.view(8, 4),
    "a mean over the batch, of which each GPU has a part": lambda net, x: x - x.mean(0),
}


def _error(answer: Any, between: Callable[..., Any], gpus: list[torch.device]) -> Exception | None:
    """Return what a test of a network raises."""
    try:
        answer(partial(_Net, between), gpus)
    except Exception as error:
        return error
    return None


@lesson.trial(right=None)
def works_everywhere(answer: Any) -> Seen:
    """See which networks a test lets pass."""
    with some_gpus(2) as gpus, torch.cuda.device(0):
        for name, between in _SOUND.items():
            error = _error(answer, between, gpus[:2])
            mistake_if(error is not None, "sound", name=name, error=told(error) if error else "")
        missed = [name for name, between in _FAULTY.items() if not _error(answer, between, gpus[:2])]
    found = len(_FAULTY) - len(missed)
    mistake_if(found == 0, "none")
    mistake_if(found <= 3, "few", found=found, missed=missed[0] if missed else "")
    return Seen(None, score=found)
