"""Every card with every build and driver: the advice, taken once, leads to a GPU that works.

What a machine does is told here anew, in another form than in the doctor's own table.
"""

import re
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import pytest

from course_utils.machine.doctor import text
from course_utils.machine.doctor.facts import Driver, Facts, Gpu
from course_utils.machine.doctor.rules import judge

from . import machines
from .machines import builds, machine, with_gpus

# releases and their builds: the release matrices of pytorch/test-infra
OLDER, LATER = ("cpu", "cu126", "cu128", "cu130"), ("cpu", "cu126", "cu130", "cu132")
RELEASES = {"2.9.1": OLDER, "2.10.0": OLDER, "2.11.0": OLDER, "2.12.0": LATER, "2.13.0": LATER}
RELEASES |= {"2.14.1": LATER, "2.15.0": ("cpu", "cu130", "cu132")}
VISIONS = dict(zip(RELEASES, "0.24.1 0.25.0 0.26.0 0.27.0 0.28.0 0.29.1 0.29.2".split(), strict=True))
# lowest and highest capability: RELEASE.md of PyTorch; cu128 lost Volta with PyTorch 2.11
KERNELS = {"cu126": ((5, 0), (9, 0)), "cu128": ((7, 0), (12, 9)), "cu130": ((7, 5), (12, 9))}
KERNELS |= {"cu132": KERNELS["cu130"], "2.11.0+cu128": KERNELS["cu130"]}
# the newest CUDA of a driver: https://docs.nvidia.com/cuda/cuda-toolkit-release-notes, the second table
DRIVERS = {470: "11.4", 525: "12.0", 528: "12.0", 535: "12.2", 570: "12.8", 580: "13.0", 595: "13.2"}


class Card(NamedTuple):
    name: str
    capability: tuple[int, int]
    first: int = 470  # drivers that know it, of those above
    last: int = 595


# the last driver, 470 for Kepler, 580 for Maxwell, Pascal and Volta:
# https://forums.developer.nvidia.com/t/unix-graphics-feature-deprecation-schedule/60588
# the first: https://docs.nvidia.com/cuda/cuda-toolkit-release-notes, of the CUDA that brought the capability
CARDS = [
    Card("Tesla K80", (3, 7), last=470),
    Card("NVIDIA GeForce GTX 750 Ti", (5, 0), last=580),
    Card("Tesla P100-PCIE-16GB", (6, 0), last=580),
    Card("NVIDIA GeForce GTX 1050", (6, 1), last=580),
    Card("Tesla V100-SXM2-16GB", (7, 0), last=580),
    Card("Tesla T4", (7, 5)),
    Card("NVIDIA A100", (8, 0)),
    Card("NVIDIA GeForce RTX 3090", (8, 6)),
    Card("NVIDIA GeForce RTX 4090", (8, 9), first=525),
    Card("NVIDIA H100", (9, 0), first=525),
    Card("NVIDIA B200", (10, 0), first=570),
    Card("NVIDIA B300", (10, 3), first=580),
    Card("NVIDIA Thor", (11, 0), first=580),
    Card("NVIDIA GeForce RTX 5090", (12, 0), first=570),
    Card("NVIDIA GB10", (12, 1), first=580),
]


def met(card: Card, version: str, tag: str, number: int, system: str) -> Facts:
    """What this machine says."""
    torch, cuda = f"{version}+{tag}", f"{tag[2:4]}.{tag[4:]}" if tag != "cpu" else ""
    driver = Driver(f"{number}.65.06", DRIVERS[number], (card.name,), card.capability, "", 1)
    there = {"packages": builds(torch, VISIONS[version]), "torch": torch, "cuda": cuda, "errors": {}}
    there |= {"archs": (), "driver_cuda": DRIVERS[number] if cuda else ""}
    place = {"system": system}
    if not cuda or int(cuda[:2]) > int(DRIVERS[number][:2]):
        there |= {"warnings": (machines.TOO_OLD,)} if cuda else {}
        return machine(interpreter=there, driver=vars(driver), place=place)
    low, high = KERNELS.get(torch) or KERNELS[tag]
    gpu = Gpu(card.name, card.capability, 8 * 2**30)
    gpu = gpu if low <= card.capability <= high else replace(gpu, error=machines.NO_KERNEL)
    return with_gpus(gpu, interpreter=there, driver=vars(driver), place=place)


def advised(facts: Facts) -> str:
    """The first thing that the report tells the reader to do about a problem."""
    return next((finding.fix for finding in judge(facts) if finding.level == "problem"), "")


@pytest.mark.parametrize("card", CARDS[1:], ids=lambda card: card.name)
def test_advice_taken_once_leads_to_a_gpu_that_works(card: Card) -> None:
    works = f"with the real GPU {card.name}"
    numbers = [number for number in DRIVERS if card.first <= number <= card.last]
    states = [(version, tag) for version, tags in RELEASES.items() for tag in tags]
    for (version, tag), number, system in product(states, numbers, ("linux", "win32")):
        facts = met(card, version, tag, number, system)
        if works in judge(facts)[-1].title or (version == "2.9.1" and number < 525):
            continue  # an old PyTorch on an old driver: two problems, one after the other
        fix = advised(facts)
        build, driver = re.search(r"torch==([\d.]+)\+(\w+)", fix), re.search(r"driver (\d+)", fix)
        after = {int(driver[1]), card.last} if driver else {number}
        version_after, tag_after = (build[1], build[2]) if build else (version, tag)
        assert build or driver, text(judge(facts))
        assert tag_after in RELEASES[version_after], fix
        assert f"torchvision=={VISIONS[version_after]}+" in fix or not build, fix
        for number_after in after:
            assert card.first <= number_after <= card.last, fix
            verdict = judge(met(card, version_after, tag_after, number_after, system))[-1].title
            assert works in verdict, (version, tag, number, fix, verdict)


def test_a_card_that_no_pytorch_knows_is_told_so() -> None:
    for version, tags in list(RELEASES.items())[1:]:
        for tag in tags:
            *findings, verdict = judge(met(CARDS[0], version, tag, 470, "linux"))
            assert any("No current PyTorch runs on Tesla K80" in finding.title for finding in findings)
            assert not [finding for finding in findings if finding.level == "problem"]
            assert "with virtual GPUs" in verdict.title


@pytest.mark.parametrize(
    ("card", "state", "fix"),
    [
        ("RTX 5090", ("2.14.1", "cu126", 570), "torch==2.11.0+cu128 torchvision==0.26.0+cu128"),
        ("RTX 5090", ("2.14.1", "cu126", 580), "torch==2.14.1+cu130 torchvision==0.29.1+cu130"),
        ("RTX 5090", ("2.10.0", "cu126", 570), "torch==2.10.0+cu128 torchvision==0.25.0+cu128"),
        ("V100-SXM2-16GB", ("2.11.0", "cu128", 470), "install driver 580, the last for this card: https"),
        ("Thor", ("2.15.0", "cpu", 580), "torch==2.15.0+cu130"),
        ("GTX 1050", ("2.15.0", "cu132", 580), "torch==2.14.1+cu126 torchvision==0.29.1+cu126"),
        ("GTX 1050", ("2.15.0", "cu132", 570), "torch==2.14.1+cu126"),
        ("GTX 1050", ("2.13.0", "cu130", 470), "install driver 580, the last for this card: https"),
        ("T4", ("2.15.0", "cu132", 470), "install driver 580.65.06 or newer: https://www.nvidia.com/drivers"),
    ],
)
def test_what_is_advised(card: str, state: tuple[str, str, int], fix: str) -> None:
    named = next(each for each in CARDS if each.name.endswith(card))
    assert fix in advised(met(named, *state, "linux"))


def test_no_driver_is_offered_where_none_helps() -> None:
    gtx = next(card for card in CARDS if card.name.endswith("GTX 1050"))
    (problem,) = (
        each for each in judge(met(gtx, "2.15.0", "cu132", 570, "linux")) if each.level == "problem"
    )
    assert problem.meaning.endswith("has no kernels for this card: a driver is not enough.")
