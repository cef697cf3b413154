"""Every collective, by two processes, and how those fail that NCCL refuses; see shown_equal.py."""

import os
from collections.abc import Callable
from datetime import timedelta

import torch
from torch import Tensor, distributed
from torch.distributed import _coalescing_manager, new_group, split_group
from torch.distributed import _functional_collectives as functional
from torch.testing import assert_close

RANK = int(os.environ["RANK"])
HERE, THERE = torch.device("cuda", RANK), torch.device("cuda", 1 - RANK)


def gpu(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32, device="cuda")


def reductions() -> None:
    for operation, expected in (
        (distributed.ReduceOp.SUM, 3),
        (distributed.ReduceOp.AVG, 1.5),
        (distributed.ReduceOp.MAX, 2),
        (distributed._make_nccl_premul_sum(0.5), 1.5),
    ):
        both = gpu(RANK + 1)
        distributed.all_reduce(both, operation)
        assert_close(both, gpu(expected))
        part, given = torch.empty(1, device="cuda"), gpu(RANK + 1, RANK + 1)
        distributed.reduce_scatter_tensor(part, given, operation)
        assert_close((part, given), (gpu(expected), gpu(RANK + 1, RANK + 1)))
    part = gpu(0)
    distributed.reduce_scatter(part, [gpu(1), gpu(2)])
    assert_close(part, gpu(2 * (RANK + 1)))
    whole = torch.tensor([3 * RANK + 2, -3 * RANK - 2], device="cuda")
    distributed.all_reduce(whole, distributed.ReduceOp.AVG)
    assert whole.tolist() == [3, -3]
    for dtype in (torch.bfloat16, torch.float16, torch.int64, torch.uint8):
        one = torch.ones(1, dtype=dtype, device="cuda")
        distributed.all_reduce(one)
        assert one.item() == 2


def moving() -> None:
    both = torch.empty(2, device="cuda")
    distributed.all_gather_into_tensor(both, gpu(RANK))
    assert_close(both, gpu(0, 1))
    apart = [gpu(9), gpu(9)]
    distributed.all_gather(apart, gpu(RANK))
    assert_close(apart, [gpu(0), gpu(1)])
    distributed.all_to_all(apart, [gpu(RANK + 0), gpu(RANK + 10)])
    assert_close(apart, [gpu(10 * RANK), gpu(10 * RANK + 1)])
    distributed.all_to_all_single(both, gpu(RANK + 0, RANK + 10))
    assert_close(both, gpu(10 * RANK, 10 * RANK + 1))
    one = gpu(RANK + 5)
    distributed.broadcast(one, src=1)
    assert_close(one, gpu(6))
    distributed.scatter(one, [gpu(1), gpu(2)] if RANK == 0 else None)
    assert_close(one, gpu(RANK + 1))
    distributed.gather(one, apart if RANK == 0 else None)
    assert RANK or torch.cat(apart).tolist() == [1, 2]
    objects = [None, None]
    distributed.all_gather_object(objects, {"rank": RANK})
    assert objects == [{"rank": 0}, {"rank": 1}]


def point_to_point() -> None:
    got = gpu(9)
    operations = [
        distributed.P2POp(distributed.isend, gpu(RANK), 1 - RANK),
        distributed.P2POp(distributed.irecv, got, 1 - RANK),
    ]
    for work in distributed.batch_isend_irecv(operations):
        work.wait()
    assert_close(got, gpu(1 - RANK))
    (distributed.recv if RANK else distributed.send)(got, 1 - RANK)
    assert_close(got, gpu(1))


def works() -> None:
    one = gpu(1)
    work = distributed.all_reduce(one, async_op=True)
    assert work.wait(timedelta(seconds=60))
    (result,) = work.get_future().then(lambda done: done.value()[0] * 2).wait()
    assert result.device == HERE
    assert result.item() == 4
    first, second = gpu(1), gpu(2)
    with _coalescing_manager(device=HERE, async_ops=True) as block:
        distributed.all_reduce(first)
        distributed.all_reduce(second)
    block.wait()
    assert_close((first, second), (gpu(2), gpu(4)))
    under_way = functional.all_reduce(gpu(1), "sum", distributed.group.WORLD)
    assert_close(gpu(1) + under_way, gpu(3))
    assert under_way.device == HERE
    assert functional.all_reduce(gpu(1), "avg", distributed.group.WORLD).cpu().item() == 1


def groups() -> None:
    assert distributed.get_backend() == "nccl"
    distributed.barrier()
    distributed.barrier(device_ids=[RANK])
    alone = split_group(split_ranks=[[0], [1]])
    assert distributed.get_backend(alone) == "nccl"
    for group, expected in ((alone, 1), (new_group([0, 1]), 2), (new_group(backend="gloo"), 2)):
        one = gpu(1)
        distributed.all_reduce(one, group=group)
        assert_close(one, gpu(expected))


def refusals() -> None:
    for error, words, call in (
        (RuntimeError, "No backend type associated with device type cpu", lambda: torch.ones(1)),
        (ValueError, "Tensors must be contiguous", lambda: torch.ones(2, 2, device="cuda").t()),
        (RuntimeError, "not supported for NCCL process group: Short", lambda: gpu(1).short()),
        (distributed.DistBackendError, "not on device passed to init", lambda: torch.ones(1, device=THERE)),
    ):
        assert words in refusal(error, lambda call=call: distributed.all_reduce(call()))
    mixed = [gpu(1), torch.ones(1)]
    assert "must be CUDA" in refusal(ValueError, lambda: distributed.all_gather(mixed, gpu(1)))
    assert "recvAnysource" in refusal(RuntimeError, lambda: distributed.recv(gpu(1)))


def refusal(error: type[Exception], call: Callable[[], object]) -> str:
    """Return the words of an error that a call must raise."""
    try:
        call()
    except error as raised:
        return str(raised)
    raise AssertionError("nothing was raised")


if __name__ == "__main__":
    torch.cuda.set_device(RANK)
    distributed.init_process_group(device_id=HERE)
    for check in (reductions, moving, point_to_point, works, groups, refusals):
        check()
        if RANK == 0:
            print(check.__name__, flush=True)
    distributed.destroy_process_group()
