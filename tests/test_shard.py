"""shard.py: FSDP2 computes what DDP does, with half of the memory on each of two ranks, and sends more."""

from pathlib import Path

import pytest
import torch

import course_utils

pytestmark = pytest.mark.slow

SCRIPT = Path(course_utils.__file__).parent / "distributed" / "scripts" / "shard.py"
WIDTH, BLOCKS = 512, 8  # as in the lesson
BLOCK, LAST = 4 * (WIDTH * WIDTH + WIDTH), 4 * (10 * WIDTH + 10)  # bytes of weight and bias
WHOLE = BLOCKS * BLOCK + LAST


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each of two ranks has measured, on a virtual GPU of its own."""
    with pytest.MonkeyPatch.context() as patch, course_utils.virtual_gpus(2):
        patch.chdir(tmp_path_factory.mktemp("shard"))
        run = course_utils.torchrun(f'--standalone --nproc-per-node 2 "{SCRIPT.as_posix()}" --steps 4')
        assert run.ok, run.error
        return torch.load("shard.pt")


def test_the_losses_are_those_of_ddp(ranks: list[dict]) -> None:
    assert len(ranks) == 2
    for rank in ranks:
        assert rank["fsdp"]["losses"] == pytest.approx(rank["ddp"]["losses"], abs=1e-6)
        assert rank["ddp"]["losses"][-1] < rank["ddp"]["losses"][0]


@pytest.mark.parametrize(("kind", "copies"), [("parameters", 1), ("gradients", 1), ("optimizer state", 2)])
def test_each_rank_holds_half(ranks: list[dict], kind: str, copies: int) -> None:
    for rank in ranks:
        assert rank["ddp"]["held"][kind] == copies * WHOLE
        assert rank["fsdp"]["held"][kind] == copies * WHOLE // 2


def test_only_a_block_and_the_last_layer_are_ever_whole(ranks: list[dict]) -> None:
    for rank in ranks:
        assert rank["ddp"]["whole at most"] == WHOLE
        assert rank["fsdp"]["whole at most"] == BLOCK + LAST


def test_the_peak_is_in_adam_s_step(ranks: list[dict]) -> None:
    """It needs the rank's parameters once more; DDP holds a copy of all gradients as well."""
    for rank in ranks:
        assert rank["ddp"]["peak"] == pytest.approx(6 * WHOLE, rel=0.01)
        assert rank["fsdp"]["peak"] == pytest.approx(5 * WHOLE / 2, rel=0.01)


def test_what_travels_in_a_step(ranks: list[dict]) -> None:
    for rank in ranks:
        assert rank["ddp"]["traffic"] == {"all-reduce": WHOLE}
        # blocks are gathered in forward and again in backward; the last layer stays whole in between
        assert rank["fsdp"]["traffic"] == {"all-gather": 2 * WHOLE - LAST, "reduce-scatter": WHOLE}
