"""The stand-in pictures: the same bytes everywhere, balanced, and neither too easy nor too hard."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.data.standin import CLASSES, MAX_SIZES, make_standin

OFFICIAL = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def test_classes_are_cifar10s_in_its_order():
    assert CLASSES == OFFICIAL


def test_pictures_have_cifar10s_shape_and_types():
    data, targets = make_standin(True, 50)
    assert (data.shape, data.dtype, data.flags.c_contiguous) == ((50, 32, 32, 3), np.uint8, True)
    assert {type(target) for target in targets} == {int}


def test_every_run_of_ten_holds_every_class():
    _, targets = make_standin(False, 205)
    assert all(sorted(targets[i : i + 10]) == list(range(10)) for i in range(0, 200, 10))
    assert len(set(targets[200:])) == 5


def test_the_bytes_are_the_same_on_every_machine():
    # seen with NumPy 1.26, 2.4 and 2.5, with and without the processor's vector instructions
    found = [
        hashlib.md5(make_standin(train, size)[0]).hexdigest() for train, size in ((True, 1000), (False, 200))
    ]
    assert found == ["8ff0db95570987bf0f8ad5f4fbe05131", "8755d15e24bc9afe5699757f21703143"]


def test_a_smaller_set_is_the_beginning_of_a_larger_one():
    small, small_targets = make_standin(True, 33)
    large, large_targets = make_standin(True, 333)
    assert np.array_equal(small, large[:33])
    assert small_targets == large_targets[:33]


def test_training_and_test_pictures_differ():
    train, test = make_standin(True, 200)[0], make_standin(False, 200)[0]
    assert len(np.unique(np.concatenate([train, test]).reshape(400, -1), axis=0)) == 400


def test_no_more_pictures_than_cifar10_has(monkeypatch):
    monkeypatch.setitem(MAX_SIZES, False, 30)
    assert len(make_standin(False, 40)[1]) == 30


@pytest.fixture(scope="module")
def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training and test pictures (n, 3, 32, 32) from -1 to 1, each followed by its labels."""
    result = []
    for train, size in ((True, 4_000), (False, 1_000)):
        data, targets = make_standin(train, size)
        result += [torch.from_numpy(data).permute(0, 3, 1, 2).float() / 127.5 - 1, torch.tensor(targets)]
    return tuple(result)


def accuracy_after_each_epoch(model: nn.Module, tensors: tuple[torch.Tensor, ...], lr: float) -> list[float]:
    pictures, labels, test_pictures, test_labels = tensors
    optimizer = torch.optim.Adam(model.parameters(), lr)
    result = []
    for _ in range(4):
        for rows in torch.randperm(len(labels)).split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(pictures[rows]), labels[rows]).backward()
            optimizer.step()
        result.append((model(test_pictures).argmax(1) == test_labels).float().mean().item())
    return result


@pytest.mark.slow
def test_a_linear_model_stays_well_behind_a_small_cnn_that_learns_step_by_step(tensors):
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    stages = [nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    linear_curve = accuracy_after_each_epoch(linear, tensors, lr=3e-4)
    cnn_curve = accuracy_after_each_epoch(nn.Sequential(*stages, *head), tensors, lr=3e-3)
    assert 0.25 < linear_curve[-1] < 0.45  # on CIFAR-10 itself such a model reaches about 0.4
    assert linear_curve[-1] + 0.15 < cnn_curve[-1] < 0.85
    assert cnn_curve[0] < 0.5
