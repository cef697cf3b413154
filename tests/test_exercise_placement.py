"""What judges of placement stand on: copies are counted, silent ones too; there are GPUs for every judge."""

from collections.abc import Callable, Iterator

import pytest
import torch
from exercise_cases import lesson_of
from torch import nn

import course_utils
from course_utils.exercises.exercise import RIGHT
from course_utils.exercises.instruments.placement import some_gpus
from course_utils.exercises.instruments.recorder import recording

Run = Callable[[torch.Tensor, torch.Tensor], object]


@pytest.fixture
def tensors() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Four float32 numbers on the CPU, and four on a virtual GPU."""
    with course_utils.virtual_gpus(count=2):
        x = torch.arange(4.0)
        yield x, x.to("cuda")


COPIES: dict[str, tuple[int, int, Run]] = {  # copies, bytes
    "to": (1, 16, lambda x, g: x.to("cuda")),
    "to, smaller dtype": (1, 8, lambda x, g: x.to("cuda", torch.float16)),
    "cuda": (1, 16, lambda x, g: x.cuda()),
    "cpu": (1, 16, lambda x, g: g.cpu()),
    "to where it is": (0, 0, lambda x, g: g.to("cuda:0")),
    "cpu of a CPU tensor": (0, 0, lambda x, g: x.cpu()),
    "GPU to GPU": (0, 0, lambda x, g: g.to("cuda:1")),
    "clone": (0, 0, lambda x, g: g.clone()),
    "module": (2, 24, lambda x, g: nn.Linear(2, 2).to("cuda")),
    "copy_": (1, 16, lambda x, g: g.copy_(x)),
    "new_tensor": (1, 8, lambda x, g: g.new_tensor([1.0, 2.0])),
    "copy_ back": (1, 16, lambda x, g: x.copy_(g)),
    "assignment to a part": (1, 8, lambda x, g: g.__setitem__(slice(2), x[:2])),
    "item": (1, 4, lambda x, g: g.sum().item()),
    "item of a CPU tensor": (0, 0, lambda x, g: x.sum().item()),
    "if": (1, 1, lambda x, g: "less" if g.sum() < 1 else "more"),
    "format": (1, 4, lambda x, g: f"{g.sum():.1f}"),
    "tolist": (1, 16, lambda x, g: g.tolist()),
    "print": (1, 16, lambda x, g: repr(g)),
    "numbers, one by one": (4, 16, lambda x, g: [float(number) for number in g]),
    "a tensor of numbers": (1, 8, lambda x, g: torch.tensor([1.0, 2.0], device="cuda")),
    "a tensor of GPU numbers": (2, 8, lambda x, g: torch.tensor([g[0], g[1]])),
    "as_tensor": (1, 16, lambda x, g: torch.as_tensor(x, device="cuda")),
    "index": (1, 16, lambda x, g: g[torch.tensor([0, 1])]),
    "made there": (0, 0, lambda x, g: torch.zeros(4, device="cuda")),
    "a CPU number": (0, 0, lambda x, g: g * torch.tensor(2.0)),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_and_bytes_are_counted(tensors: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    number, nbytes, run = COPIES[name]
    with recording() as record:
        run(*tensors)
    assert (len(record.host), sum(record.host)) == (number, nbytes)


def test_copies_between_gpus_have_their_own_list(tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, g = tensors
    with recording() as record:
        g.to("cuda:1").to("cuda:0")
        x.to("cuda:1")
    assert [(str(one), str(two), nbytes) for one, two, nbytes in record.copies] == [
        ("cuda:0", "cuda:1", 16),
        ("cuda:1", "cuda:0", 16),
        ("cpu", "cuda:1", 16),
    ]
    assert record.host == [16]


def test_counting_leaves_nothing_behind(tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
    before = torch.Tensor.to, torch.Tensor.tolist, torch.tensor
    with pytest.raises(ZeroDivisionError), recording() as record:
        print(1 / 0)
    assert (torch.Tensor.to, torch.Tensor.tolist, torch.tensor) == before
    tensors[0].cuda()
    assert len(record.host) == 0


def test_a_gpu_for_every_judge() -> None:
    there = torch.cuda.is_available()
    with some_gpus() as gpus:
        assert torch.ones(1, device=gpus[-1]).device == gpus[-1]
    assert torch.cuda.is_available() == there


@pytest.mark.parametrize("name", ["standardize", "load_checkpoint", "evaluate"])
def test_an_answer_is_judged_on_a_machine_without_a_gpu(name: str) -> None:
    lesson = lesson_of("02")
    answers = lesson.answers(name, lesson.tables[name]["worked"])
    assert lesson.exercises[name].verdict(*answers).outcome == RIGHT
