"""What lesson 08's judges stand on: a graph's memory, noticed waiting, counted operations."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import course_utils
from course_utils.exercises.instruments.graphs import PretendGraph
from course_utils.exercises.instruments.placement import train_step
from course_utils.exercises.instruments.recorder import recording

Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


# ---- the stand-in for a CUDA graph ---------------------------------------------------------------------
def make_step(seed: int = 0) -> tuple[nn.Module, Step]:
    """Return a small network, and a step of SGD with momentum that trains it."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    step = partial(train_step, net, optimizer)
    step(torch.ones(4, 1, 4, 4), torch.zeros(4).long())  # momentum exists from now on
    return net, step


def numbers(net: nn.Module) -> torch.Tensor:
    """Return all parameters as one tensor."""
    return torch.cat([value.flatten() for value in net.state_dict().values()]).clone()


BATCHES = [(torch.randn(4, 1, 4, 4), torch.randint(3, (4,))) for _ in range(3)]


def test_capturing_computes_nothing_and_a_replay_is_the_step() -> None:
    plain, step = make_step()
    net, captured = make_step()
    before, graph = numbers(net), PretendGraph()
    x, y = torch.zeros(4, 1, 4, 4), torch.zeros(4).long()
    with graph.capture():
        loss = captured(x, y)
    assert torch.equal(numbers(net), before)
    assert loss.isnan()
    for new_x, new_y in BATCHES:
        x.copy_(new_x), y.copy_(new_y)
        graph.replay()
        torch.testing.assert_close(loss, step(new_x, new_y))
    torch.testing.assert_close(numbers(net), numbers(plain))
    assert (graph.captures, graph.replays) == (1, 3)


def test_a_graph_keeps_to_its_memory_whatever_the_names_stand_for() -> None:
    x, graph = torch.ones(2), PretendGraph()
    with graph.capture():
        doubled = x * 2
    memory = x.detach()
    x.data = torch.full((2,), 5.0)
    graph.replay()
    assert doubled.tolist() == [2, 2]
    memory.fill_(3)
    graph.replay()
    assert doubled.tolist() == [6, 6]


@pytest.mark.parametrize("read", [torch.Tensor.item, bool, torch.nonzero], ids=["item", "bool", "nonzero"])
def test_a_number_cannot_be_read_while_capturing(read: Callable[[torch.Tensor], object]) -> None:
    total, graph = torch.ones(()), PretendGraph()

    def capture() -> None:
        with graph.capture():
            read(total.add_(1))

    with pytest.raises(RuntimeError, match="operation not permitted"):
        capture()
    assert total == 1


# ---- waiting for the GPU -------------------------------------------------------------------------------
@pytest.fixture
def gpu_tensor() -> Iterator[torch.Tensor]:
    with course_utils.virtual_gpus(count=1):
        yield torch.arange(4.0).to("cuda")


WAITS: dict[str, tuple[list[str], Callable[[torch.Tensor], object]]] = {
    "item": (["number"], lambda g: g.sum().item()),
    "format": (["number"], lambda g: f"{g.sum():.2f}"),
    "if": (["if"], lambda g: 1 if g.sum() > 0 else 2),
    "isnan": (["if"], lambda g: bool(g.sum().isnan())),
    "print": (["print"], repr),
    "cpu": (["cpu"], lambda g: g.cpu()),
    "tolist": (["cpu"], lambda g: g.tolist()),
    "copy_": (["cpu"], lambda g: torch.zeros(4).copy_(g)),
    "to": (["to_gpu"], lambda g: torch.ones(4).to(g.device)),
    "factory": (["to_gpu"], lambda g: torch.tensor([1.0, 2.0], device=g.device)),
    "nonzero": (["size"], lambda g: g.nonzero()),
    "mask": (["size"], lambda g: g[g > 1]),
    "synchronize": (["synchronize"], lambda g: torch.cuda.synchronize()),
    "accelerator": (["synchronize"], lambda g: torch.accelerator.synchronize()),
    "stream": (["synchronize"], lambda g: torch.cuda.current_stream().synchronize()),
    "none": ([], lambda g: (g / 255 - 0.5).mean().detach() + torch.zeros_like(g)),
    "index": ([], lambda g: g[torch.zeros(2, dtype=torch.long, device="cuda")]),
}


@pytest.mark.parametrize("name", WAITS)
def test_every_kind_of_waiting_is_noticed(gpu_tensor: torch.Tensor, name: str) -> None:
    kinds, run = WAITS[name]
    with recording(lambda: "now") as record:
        run(gpu_tensor)
    waits = [(operation.wait, operation.moment) for operation in record.operations if operation.wait]
    assert waits == [(kind, "now") for kind in kinds]


# ---- operations ----------------------------------------------------------------------------------------
def train_a_little() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(216, 4))
    x = torch.randn(5, 3, 8, 8)
    net(x).square().mean().backward()
    with torch.inference_mode():
        net(x) @ torch.randn(4, 2)


def test_operations_are_those_of_pytorchs_counter() -> None:
    with FlopCounterMode(display=False) as right:
        train_a_little()
    with recording() as record:
        train_a_little()
    assert record.flop == right.get_total_flops() > 0


@pytest.mark.parametrize(
    ("numbers", "name", "run"),
    [
        (12_000, "mul", lambda x: x * x),
        (12_000, "sum", lambda x: x.sum()),
        (12_000, "relu_", lambda x: torch.nn.functional.relu_(x)),
        (24_000, "cat", lambda x: torch.cat([x, x])),
        (14_400, "_cdist_forward", lambda x: torch.cdist(x, x, p=1)),
        (14_400, "_euclidean_dist", lambda x: torch.cdist(x, x)),
    ],
)
def test_what_the_counter_misses_is_seen(
    numbers: int, name: str, run: Callable[[torch.Tensor], object]
) -> None:
    x = torch.randn(120, 100)
    with recording() as record:
        run(x)
    assert [(one.name, one.numbers) for one in record.operations if one.launch] == [(name, numbers)]
    assert record.flop == 0


def test_a_view_and_empty_memory_are_no_launch() -> None:
    with recording() as record:
        torch.empty(3, 2).t().unsqueeze(0)[0]
    assert record.operations
    assert not any(operation.launch for operation in record.operations)
