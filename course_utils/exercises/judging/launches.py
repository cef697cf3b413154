"""How the challenge of lesson 01 is judged: launches are counted, and numbers of nearest centres checked."""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..engine import wrong

_NO_WORK = ("_unsafe_view", "_reshape_alias", "empty", "empty_like", "empty_strided", "new_empty")
_WAYS_OUT = ("numpy", "tolist", "__array__", "__dlpack__", "cpu")


class _Launches(TorchDispatchMode):
    """Counts operations that a GPU would get as launches: all but views and empty memory."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not (func.is_view or func.overloadpacket.__name__ in _NO_WORK)
        return func(*args, **(kwargs or {}))


class _StaysInside(TorchFunctionMode):
    """Finds data that leave PyTorch or go to the CPU, and so would escape the count."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        there = (*args[1:], *(kwargs or {}).values()) if name == "to" else ()
        if name in _WAYS_OUT or any(isinstance(item, str) and item == "cpu" for item in there):
            what = "It" if name in ("to", "cpu") else f"{name}()"
            wrong("left", f"{what} takes the numbers to the CPU. Stay with tensors, on their device.")
        return func(*args, **(kwargs or {}))


def counted(answer: Callable[..., Any], *tensors: torch.Tensor) -> tuple[Any, int]:
    """Return what `answer(*tensors)` returns, and how many launches that took."""
    with _StaysInside(), _Launches() as launches:
        return answer(*tensors), launches.count


def check_nearest(got: Any, points: torch.Tensor, centres: torch.Tensor) -> None:
    """Check the numbers of the nearest centres, and name the mistake behind wrong ones.

    Args:
        got: what an answer returned; n numbers from 0 to k - 1 are right.
        points: shape (n, d).
        centres: shape (k, d).
    """
    n, k = len(points), len(centres)
    if isinstance(got, torch.return_types.min):
        wrong("pair", "min(dim=...) returns two tensors, values and indices. Wanted is one of them.")
    if not isinstance(got, torch.Tensor):
        wrong("list", f"It should return one tensor; it returned a {type(got).__name__}.")
    got = got.cpu()
    if got.is_floating_point():
        wrong("distances", "It returns floats, such as distances. Wanted is which centre: 0, 1, 2...")
    if n != k and got.shape == (k,):
        wrong("swapped", "It returns one number for each centre. Wanted is one for each point.")
    if got.shape != (n,):
        wrong("shape", f"For {n} points it returns the shape {tuple(got.shape)}; wanted is ({n},).")
    if got.dtype == torch.bool or not ((got >= 0) & (got < k)).all():
        wrong("range", "The numbers of the centres go from 0 to the number of centres minus 1.")
    distances = (points[:, None].double() - centres.double()).norm(dim=-1)
    reached = distances.gather(1, got.long()[:, None])[:, 0]
    if not (reached <= distances.amin(1) + 0.01).all():  # matrix products lose digits, so cdist is not exact
        _tell_apart(got.long(), distances, points, centres)


def _tell_apart(
    got: torch.Tensor, distances: torch.Tensor, points: torch.Tensor, centres: torch.Tensor
) -> None:
    """Name the mistake behind wrong numbers."""
    if torch.equal(got, distances.argmax(1)):
        wrong("farthest", "It finds the farthest centre, not the nearest.")
    if torch.equal(got, (points @ centres.T).argmax(1)):
        wrong("dot", "The largest product is not the least distance: long vectors win it.")
    if torch.equal(got, torch.cdist(points, centres, p=1).argmin(1)):
        wrong("manhattan", "It adds up absolute differences; wanted are squares.")
    if torch.equal(got, (points[:, None] - centres).sum(-1).abs().argmin(1)):
        wrong("sum_first", "The differences are added up before they are squared, so they cancel each other.")
    wrong("other", "Some points have a nearer centre than the one it names. Which dimension is reduced?")
