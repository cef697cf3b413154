"""A stand-in for a CUDA graph that runs on any machine, and the judge of a training that replays one.

The stand-in does what matters to its user: while it captures, nothing is computed; a replay repeats the
captured operations on the very same memory; no line of Python runs in it. It saves no time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from course_utils.memory.labels import tensors_in

from ..trying import Mistake, mistake_if

Batches = list[tuple[torch.Tensor, torch.Tensor]]
_READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select")


class PretendGraph:
    """Stands in for `torch.cuda.CUDAGraph`.

    Attributes:
        captures, replays: how often each was done.
    """

    def __init__(self) -> None:
        self.captures = self.replays = 0
        self._operations: list[tuple[Any, Any, Any, list[Any]]] = []

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Note the operations of a `with` block, as `with torch.cuda.graph(graph):` does.

        Raises:
            RuntimeError: (in the block) Python asks for a number, and nothing has been computed yet.
        """
        self.captures += 1
        notes = _Notes()
        try:
            with notes:
                yield
        finally:
            notes.undo()
            self._operations = notes.operations

    def replay(self) -> None:
        """Do the captured operations again, on the memory that they were captured with."""
        self.replays += 1
        with torch.no_grad():
            for function, args, kwargs, results in self._operations:
                found = tree_leaves(function(*args, **kwargs))
                for old, new in zip(results, found, strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class _Notes(TorchDispatchMode):
    """Notes every operation with its memory, and can undo what they did to it."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Any]]] = []
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note an operation; a view needs none, it is memory that is there."""
        kwargs = kwargs or {}
        if func._schema.name.partition("::")[2] in _READS:
            raise RuntimeError(
                "operation not permitted when a graph is being captured: nothing is computed yet"
            )
        if func.is_view:
            return func(*args, **kwargs)
        same = tree_map(_same_memory, (args, kwargs))
        for tensor in _written(func, *same):
            self._before.append((tensor, tensor.clone()))
        result = func(*args, **kwargs)
        self.operations.append((func, *same, [_same_memory(leaf) for leaf in tree_leaves(result)]))
        return result

    def undo(self) -> None:
        """Leave results as they are before anything is computed, and written tensors as they were."""
        for *_, results in self.operations:
            for tensor in results:
                if isinstance(tensor, torch.Tensor):
                    tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
        for tensor, before in reversed(self._before):
            tensor.copy_(before)


def _same_memory(value: Any) -> Any:
    """Return another name for a tensor's memory, which `tensor.data = ...` does not change."""
    return value.detach() if isinstance(value, torch.Tensor) else value


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[torch.Tensor]:
    """Yield the arguments that an operation writes to."""
    for position, argument in enumerate(func._schema.arguments):
        said = argument.alias_info is not None and argument.alias_info.is_write
        if said or argument.name.startswith("running_"):  # batch_norm writes to these, and does not say so
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            yield from tensors_in(value)


# ---- the judge -----------------------------------------------------------------------------------------
class _Training:
    """A small network, and a step that trains it on a batch."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(3)
            self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
            self.batches = [(torch.randn(5, 6), torch.randint(4, (5,))) for _ in range(4)]
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.3)
        self.steps = 0

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Train on a batch, return its loss."""
        self.steps += 1
        loss = nn.functional.cross_entropy(self.net(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def losses(self, batches: Batches) -> torch.Tensor:
        """Train on batches without a graph, return their losses."""
        return torch.stack([self.step(x, y) for x, y in batches])


def judge_replay(answer: Callable[..., Any]) -> None:
    """Let an answer train with a graph, and compare with a training without."""
    run, graph = _Training(), PretendGraph()
    given = [(x.clone(), y.clone()) for x, y in run.batches]
    said = answer(run.step, run.batches, graph)
    _judge_use(run, graph)
    mistake_if(said is None or len(said) != len(given), "count", batches=len(given))
    losses = torch.stack([torch.as_tensor(loss).detach().float() for loss in said])
    _judge_losses(losses, given, graph, said)
    if not all(
        torch.equal(a, b)
        for pair, kept in zip(run.batches, given, strict=True)
        for a, b in zip(pair, kept, strict=True)
    ):
        raise Mistake("overwrites")


def _judge_use(run: _Training, graph: PretendGraph) -> None:
    """Ask for one capture and one replay for each batch."""
    mistake_if(not graph.captures, "eager", steps=run.steps)
    mistake_if(graph.captures > 1, "captures", captures=graph.captures)
    mistake_if(run.steps > 1, "eager", steps=run.steps)
    mistake_if(not graph.replays, "never")


def _judge_losses(losses: torch.Tensor, given: Batches, graph: PretendGraph, said: Any) -> None:
    """Compare losses with those of a training without a graph, and of usual mistakes."""

    def are(batches: Batches) -> bool:
        other = _Training().losses(batches)
        return len(other) == len(losses) and torch.allclose(losses, other, atol=1e-5)

    if are(given) and graph.replays == len(given):
        return
    mistake_if(len(losses) > 1 and torch.equal(losses, losses[:1].expand_as(losses)), "same_loss")
    mistake_if(losses.isnan().any(), "nan")
    mistake_if(are(given[:1] * len(given)), "same_batch")
    mistake_if(are([(x, given[0][1]) for x, _ in given]), "labels")
    mistake_if(are([(given[0][0], y) for _, y in given]), "pictures")
    mistake_if(graph.replays != len(given), "replays", replays=graph.replays, batches=len(given))
    mistake_if(are([given[0], *given[:-1]]), "late")
    raise Mistake("other")
