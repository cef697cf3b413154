"""Judging shares of the data: which samples a rank gets, beside what the real DistributedSampler gives it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils.data import DistributedSampler

from ..engine import wrong

# n, world, rank, epoch, drop_last: from the simple to the odd; the last ones have fewer samples than ranks
CASES = (
    (12, 4, 0, 0, False),
    (12, 4, 3, 0, False),
    (12, 4, 1, 5, False),
    (10, 4, 0, 0, False),
    (10, 4, 3, 0, False),
    (11, 4, 2, 3, False),
    (10, 4, 0, 1, True),
    (10, 4, 3, 2, True),
    (12, 4, 2, 2, True),
    (7, 1, 0, 2, False),
    (3, 8, 7, 1, False),
    (2, 8, 5, 0, False),
    (3, 8, 1, 0, True),
    (50_000, 7, 6, 9, False),
)


def compare_share(guess: Any, actual: list[int]) -> None:
    """Compare a guessed share of rank 3 of 4 among ten samples with the one that came out."""
    if not isinstance(guess, list | tuple) or not all(type(number) is int for number in guess):
        wrong("form", "Write a list of sample numbers, such as [3, 4, 5].")
    said = list(guess)
    if said == actual:
        return
    if said == [3, 7]:
        wrong("unpadded", f"It gets {actual}. All ranks get equally many: the list is padded to 12.")
    if said in ([9], [7, 8, 9], [8, 9], [9, 0, 1]):
        wrong("block", f"It gets {actual}. The samples are dealt out in turns, not cut into blocks.")
    if said in ([3, 7, 9], [3, 7, 7], [3, 7, 8], [3, 7, 3]):
        wrong("last", f"It gets {actual}. The list is padded from its own beginning: 0 and 1.")
    if said == [3, 7, 0]:
        wrong("first", f"It gets {actual}. Two are missing to 12, so rank 2 gets 0, the first of the list.")
    if sorted(said) == sorted(actual):
        wrong("order", f"The right ones. They come in this order: {actual}.")
    if len(said) != len(actual):
        wrong("count", f"It gets {actual}. How many has each rank, if all of 4 have equally many?")
    wrong("other", f"It gets {actual}. Deal out 0 to 9, then 0 and 1 again, to four ranks in turns.")


def _real(n: int, world: int, rank: int, epoch: int, drop_last: bool, **options: Any) -> list[int]:
    """Return what the sampler really gives."""
    sampler = DistributedSampler(range(n), world, rank, drop_last=drop_last, **options)
    sampler.set_epoch(epoch)
    return list(sampler)


@contextmanager
def _not_used() -> Iterator[list[int]]:
    """Note in a `with` block whether a DistributedSampler is gone through."""
    used: list[int] = []
    walk = DistributedSampler.__iter__

    def noted(self: Any) -> Iterator[int]:
        used.append(1)
        return walk(self)

    with mock.patch.object(DistributedSampler, "__iter__", noted):
        yield used


def judge_sampler(answer: Callable[..., Any]) -> None:
    """Ask for the real sampler's numbers in every case, made without it."""
    for case in CASES:
        right, before = _real(*case), torch.get_rng_state()
        with _not_used() as used:
            given = answer(*case)
            given = None if given is None else [int(number) for number in given]
        touched = not torch.equal(before, torch.get_rng_state())
        torch.set_rng_state(before)
        if given is None:
            wrong("nothing", "Your function returns nothing. Does it end in `return`?")
        if given != right:
            _explain(given, right, case)
        if used:
            wrong("used", "Right, but the real sampler made it. Make the order and the share yourself.")
        if touched:
            wrong("global", "Right, but it draws from torch's own generator, or seeds it, and so disturbs "
                  "every other random number of the training. Use torch.Generator().")  # fmt: skip


def _explain(given: list[int], right: list[int], case: tuple[Any, ...]) -> None:
    """Say what is wrong with a share."""
    n, world, rank, epoch, drop_last = case
    at = f"sampler_by_hand(n={n}, world={world}, rank={rank}, epoch={epoch}, drop_last={drop_last})"
    shown = f"{at} gives {given[:8]}{' ...' if len(given) > 8 else ''}"
    if given == _real(n, world, rank, epoch, drop_last, shuffle=False):
        wrong("unshuffled", f"{shown}: not shuffled. First an order: torch.randperm with its generator.")
    if epoch and given == _real(n, world, rank, 0, drop_last):
        wrong("epoch", f"{shown}, as in epoch 0. The epoch changes the order: it is added to the seed.")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch)).tolist()
    each = -(-n // world)
    if not drop_last and 2 * n < world and given == (order * 2)[rank::world]:
        wrong("few", f"{shown}. With so few samples the order is needed more than twice to pad.")
    if given in (order[rank * each : (rank + 1) * each], (order * world)[rank * each : (rank + 1) * each]):
        wrong("block", f"{shown}: a block of the order. Ranks take turns: every {world}th, from {rank} on.")
    if not drop_last and given == order[rank::world]:
        wrong("unpadded", f"{shown}. With {n} samples some ranks get one less. Pad the order first.")
    if drop_last and given == (order * world)[rank : world * each : world]:
        wrong("drop_last", f"{shown}: padded. With drop_last the order is cut off instead.")
    if drop_last and given == order[rank::world]:
        wrong("drop_last", f"{shown}. With drop_last every rank gets {n // world}, and the rest is left out.")
    if not drop_last and given == order[: n // world * world][rank::world]:
        wrong("dropped", f"{shown}: samples are left out. Only drop_last may do that.")
    if n % world and not drop_last and given[:-1] == right[:-1] and len(given) == len(right):
        wrong("padding", f"{shown}; the last one should be {right[-1]}. Pad from the order's own beginning.")
    wrong("other", f"{shown}; it should be {right[:8]}{' ...' if len(right) > 8 else ''}.")
