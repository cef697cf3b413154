"""A script written for GPUs that starts processes in four ways; `try` runs it as Python does."""

import os
import subprocess
import sys

import torch
from torch import Tensor, multiprocessing, nn
from torch.utils.data import DataLoader


def add(number: int, tensor: Tensor, layer: nn.Module, answers: multiprocessing.SimpleQueue) -> None:
    """Write into the parent's memory, as a tensor on a GPU lets its children do."""
    tensor += 1
    assert isinstance(layer.weight, nn.Parameter)
    answers.put((str(layer.weight.device), tensor.device.index, torch.cuda.device_count()))


# what a script does not import is not imported for it
COUNT = """
import importlib.util, sys
assert importlib.util.find_spec("torch")
assert not sys.modules.keys() & {"torch", "course_utils"}
import torch
print("child", torch.cuda.device_count())
"""


class Counts(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return torch.cuda.device_count()


def touch(answers: multiprocessing.SimpleQueue) -> None:
    try:
        torch.ones(1, device="cuda")
    except RuntimeError as error:
        answers.put(str(error))


if __name__ == "__main__":
    print(sys.argv[1:], os.path.samefile(sys.path[0], os.path.dirname(__file__)), torch.cuda.device_count())
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.SimpleQueue()
    tensor, layer = torch.zeros(2, device="cuda:1"), nn.Linear(2, 2).cuda()
    multiprocessing.spawn(add, (tensor, layer, answers))
    print(answers.get(), tensor.tolist())
    (counts,) = DataLoader(Counts(), num_workers=1, multiprocessing_context="spawn")
    print("worker", counts.item())
    forked = multiprocessing.get_context("fork").Process(target=touch, args=(answers,))
    forked.start()
    print(answers.get())
    subprocess.run([sys.executable, "-c", COUNT], check=True)
    try:
        spawn.Process(target=print, args=(layer(tensor.cuda(0)),)).start()
    except RuntimeError as error:
        print(str(error)[:57])
    sys.exit(7)
