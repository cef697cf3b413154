"""Judging a log of a validation run: it must say what it is asked, and keep nothing of a batch on the GPU."""

import gc
from typing import Any

import torch
from torch import nn

from ..engine import close, wrong

KIB = 2**10
ROWS = 64
_LIMIT = 32 * KIB  # 64 rows keep 768 KiB of activations; a loss for each batch and some scores are fine


def judge_log(log: type, gpu: torch.device) -> None:
    """Judge a log by what stays on `gpu` after some batches, and by what it then says."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # the GPU's random numbers belong to the lesson
        layers = [nn.Linear(64, 1024), nn.Tanh(), nn.Sigmoid(), nn.Tanh(), nn.Linear(1024, 10)]
        model = nn.Sequential(*layers).to(gpu)
        _judge_memory(log, model, gpu)
        _judge_answers(log, model, gpu)


def _batch(gpu: torch.device, labels: int = ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch; it is damaged if it has not a label for each of its rows."""
    return torch.randn(ROWS, 64).to(gpu), torch.randint(10, (labels,)).to(gpu)


def _kept(log: type, model: nn.Module, gpu: torch.device, good: int, damaged: int = 0) -> tuple[int, Any]:
    """Return the bytes that stay on the GPU after some batches, and the log that may hold them."""
    before = torch.cuda.memory_allocated(gpu)
    made = log()
    for labels in [ROWS - 1] * damaged + [ROWS] * good:
        made.batch(model, *_batch(gpu, labels))
    gc.collect()  # what nobody can reach is no leak
    return torch.cuda.memory_allocated(gpu) - before, made


def _judge_memory(log: type, model: nn.Module, gpu: torch.device) -> None:
    """Name what holds memory: something of every batch, of the last one, or of those that failed."""
    few, _ = _kept(log, model, gpu, 2)
    many, _ = _kept(log, model, gpu, 10)
    if many - few > 8 * _LIMIT:
        wrong(
            "losses",
            f"Each good batch leaves {(many - few) / 8 / KIB:,.0f} KiB on the card. "
            "A loss is one number, but what does it hold?",
        )
    if many > _LIMIT:
        wrong(
            "last",
            f"However many batches, {many / KIB:,.0f} KiB stay. They belong to one batch: which one does the "
            "log still hold, and with what behind it?",
        )
    failed, _ = _kept(log, model, gpu, 1, damaged=3)
    if failed > _LIMIT:
        wrong(
            "error",
            f"Each damaged batch leaves {failed / 3 / KIB:,.0f} KiB on the card. An error holds its "
            "traceback, and what does that hold?",
        )


def _judge_answers(log: type, model: nn.Module, gpu: torch.device) -> None:
    """See that the log still says what it is there for."""
    batches = [_batch(gpu), _batch(gpu), _batch(gpu, ROWS - 1), _batch(gpu)]
    made = log()
    for x, y in batches:
        made.batch(model, x, y)
    del batches[2]
    with torch.no_grad():
        scores = [model(x) for x, _ in batches]
        losses = [nn.functional.cross_entropy(s, y).item() for s, (_, y) in zip(scores, batches, strict=True)]
    mean = made.mean()
    if not isinstance(mean, float | torch.Tensor) or not close(float(mean), sum(losses) / 3, 1e-4):
        wrong("mean", f"After losses {losses[0]:.3f}, {losses[1]:.3f}, {losses[2]:.3f} mean() says {mean!r}.")
    texts = [str(item) for item in made.failed] if isinstance(made.failed, list) else []
    if len(texts) != 1 or "batch_size" not in texts[0]:
        wrong("failed", "`failed` should say for each damaged batch what went wrong, as the message did.")
    last = made.last
    if not isinstance(last, torch.Tensor) or last.shape != scores[-1].shape:
        wrong("scores", "`last` should be the scores of the last batch, a tensor: a row for each sample.")
    if not torch.allclose(last.detach().cpu(), scores[-1].cpu(), atol=1e-5):
        wrong("scores", "`last` holds other numbers than the scores of the last batch.")
    made.batch(model, *_batch(gpu, ROWS - 1))
    kept = made.last
    if kept is None or not torch.allclose(kept.detach().cpu(), scores[-1].cpu(), atol=1e-5):
        wrong("not_good", "After a damaged batch, `last` no longer holds the scores of the last good one.")
