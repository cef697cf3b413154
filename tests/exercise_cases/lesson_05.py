"""Answers to the exercises of lesson 05."""

CONTEXT = """
import math
from collections import OrderedDict

import numpy
import torch
from torch import nn
from torch.nn import parallel
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present


def split_sizes(batch, gpus):
    return [len(part) for part in torch.arange(batch).chunk(gpus)]
"""

ACTUAL = {
    "first_split": "split_sizes(30, 8)",
    "last_batch": "split_sizes(10, 8)",
    "how_combined": "'added up'",
    "right_shares": "'only (4, 4)'",
}


def guesses(name: str, **values: str) -> dict[str, str]:
    """Return a wrong guess for each mistake."""
    return {key: f"exercise.{name}.guess({value})" for key, value in values.items()}


def split(body: str) -> str:
    """Return an answer to `split_by_hand` with this body."""
    return "def split_by_hand(batch, gpus):\n    " + body.replace("\n", "\n    ")


def load(body: str) -> str:
    """Return an answer to `load_saved` with this body."""
    return "def load_saved(model, saved):\n    " + body.replace("\n", "\n    ")


def renamed(name: str) -> str:
    """Return an answer to `load_saved` that loads under new names."""
    return load(f"model.load_state_dict({{{name}: tensor for name, tensor in saved.items()}})")


def reduce(body: str) -> str:
    """Return an answer to `all_reduce` with this body."""
    return "def all_reduce(tensors):\n    " + body.replace("\n", "\n    ")


def fair(body: str) -> str:
    """Return an answer to `fair_all_reduce` with this body."""
    return reduce(body).replace("all_reduce", "fair_all_reduce")


STAR = """
total = sum(tensor.to(tensors[0].device) for tensor in tensors)
for tensor in tensors:
    tensor.copy_(total)"""

RING = """
n = len(tensors)
parts = [list(tensor.tensor_split(n)) for tensor in tensors]
for step in range(n - 1):
    for gpu in range(n):
        part, right = (gpu - step) % n, (gpu + 1) % n
        parts[right][part] += parts[gpu][part].to(tensors[right].device)
for step in range(n - 1):
    for gpu in range(n):
        part, right = (gpu + 1 - step) % n, (gpu + 1) % n
        parts[right][part].copy_(parts[gpu][part])"""

EQUAL_PARTS = """
n = len(tensors)
parts = [tensor.view(n, -1) for tensor in tensors]
for gpu, tensor in enumerate(tensors):
    total = sum(part[gpu].to(tensor.device) for part in parts)
    for part in parts:
        part[gpu].copy_(total)"""

RIGHT = {
    "how_combined": ["exercise.how_combined.guess('Added up')"],
    "right_shares": ["exercise.right_shares.guess('only (4,4)')"],
    "split_by_hand": [
        split("sizes, size = [], math.ceil(batch / gpus)\nwhile sum(sizes) < batch:\n"
              "    sizes.append(min(size, batch - sum(sizes)))\nreturn sizes"),
        split("full = -(-batch // gpus)\n"
              "return list(numpy.diff(numpy.minimum(numpy.arange(0, batch + full, full), batch)))"),
        split("full = (batch + gpus - 1) // gpus\nrest = batch % full\n"
              "return [full] * (batch // full) + ([rest] if rest else [])"),
        split("size = -(-batch // gpus)\n"
              "return tuple(min(size, batch - i * size) for i in range(-(-batch // size)))"),
    ],
    "good_batch_size": ["good_batch_size = 54", "good_batch_size = numpy.arange(49, 60)[5]"],
    "load_saved": [
        load("saved = dict(saved)\nconsume_prefix_in_state_dict_if_present(saved, 'module.')\n"
             "model.load_state_dict(saved)"),
        load("consume_prefix_in_state_dict_if_present(saved, 'module.')\nmodel.load_state_dict(saved)"),
        load("wrapped = all(name.startswith('module.') for name in saved)\n"
             "(nn.DataParallel(model) if wrapped else model).load_state_dict(saved)"),
        renamed("name[7:] if name.startswith('module.') else name"),
        load("for name in list(saved):\n    if name.startswith('module.'):\n"
             "        saved[name.split('module.', 1)[1]] = saved.pop(name)\nmodel.load_state_dict(saved)"),
        load("try:\n    model.load_state_dict(saved)\nexcept RuntimeError:\n"
             "    model.load_state_dict({name.removeprefix('module.'): t for name, t in saved.items()})"),
    ],
    "all_reduce": [
        reduce("copies = [[t.to(place.device, copy=True) for t in tensors] for place in tensors]\n"
               "for tensor, copy in zip(tensors, copies):\n    tensor.copy_(torch.stack(copy).sum(0))"),
        reduce("for tensor in tensors[1:]:\n    tensors[0].add_(tensor.to(tensors[0].device))\n"
               "for tensor in tensors[1:]:\n    tensor[...] = tensors[0]"),
        reduce("total = sum(tensor.cpu() for tensor in tensors)\n"
               "for tensor in tensors:\n    tensor.copy_(total)"),
        reduce("sums = [sum(o.to(t.device) for o in tensors) for t in tensors]\n"
               "for tensor, total in zip(tensors, sums):\n    tensor.data = total"),
        reduce("total = parallel.comm.reduce_add(tensors, 0)\n"
               "gpus = [tensor.device.index for tensor in tensors]\n"
               "for tensor, own in zip(tensors, parallel.comm.broadcast(total, gpus)):\n"
               "    tensor.copy_(own)"),
    ],
    "fair_all_reduce": [fair(STAR), fair(RING)],
}  # fmt: skip

WRONG = {
    "first_split": guesses(
        "first_split",
        form="'4 4 4 4 4 4 4 2'",
        sum="[4] * 8",
        even="[4, 4, 4, 4, 4, 4, 3, 3]",
        order="[2, 4, 4, 4, 4, 4, 4, 4]",
        other="[3, 3, 3, 3, 3, 3, 3, 9]",
        too_few="[10, 10, 10]",
    ),
    "last_batch": guesses(
        "last_batch",
        form="5",
        sum="[4] * 8",
        even="[2, 2, 1, 1, 1, 1, 1, 1]",
        too_few="[4, 4, 2]",
        other="[1, 1, 1, 1, 1, 1, 1, 3]",
    ),
    "even_split": {
        "true": "even_split = 'true'",
        "outdated": "even_split = 'outdated'",
        "word": "even_split = 'no'",
    },
    "split_by_hand": {
        "nothing": split("part = -(-batch // gpus)"),
        "whole": split("return [batch / gpus] * gpus"),
        "negative": split("part = -(-batch // gpus)\n"
                          "return [part] * (gpus - 1) + [batch - part * (gpus - 1)]"),
        "zeros": split("part = -(-batch // gpus)\n"
                       "return [max(0, min(part, batch - gpu * part)) for gpu in range(gpus)]"),
        "even": split("return [batch // gpus + (gpu < batch % gpus) for gpu in range(gpus)]"),
        "floor": split("return [batch // gpus] * gpus"),
        "rest": split("part = -(-batch // gpus)\nreturn [part] * -(-batch // part)"),
        "torch": split("yield from split_sizes(batch, gpus)"),
        "one_more": split("part = batch // gpus + 1\n"
                          "return [min(part, batch - first) for first in range(0, batch, part)]"),
        "eight": split("part = -(-batch // 8)\n"
                       "return [min(part, batch - first) for first in range(0, batch, part)]"),
        "other": split("return [4, 4, 4, 4, 4, 4, 4, 2]"),
        "raises": split("return batch.chunk(gpus)"),
    },
    "good_batch_size": {
        "form": "good_batch_size = 48",
        "single": "good_batch_size = 50",
        "idle": "good_batch_size = 49",
        "last_single": "good_batch_size = 52",
        "last_idle": "good_batch_size = 53",
        "not_smallest": "good_batch_size = 56",
    },
    "how_combined": guesses(
        "how_combined", averaged="'averaged'", first="'only that of cuda:0 counts'", word="'mean'"
    ),
    "load_saved": {
        "prefix": load("model.load_state_dict(saved, strict=True)"),
        "nothing": load("model.load_state_dict(saved, strict=False)"),
        "plain": renamed("name[7:]"),
        "letters": renamed("name.lstrip('module.')"),
        "inner": renamed("name.replace('module.', '')"),
        "anywhere": load("if 'module.' in next(iter(saved)):\n"
                         "    saved = {name[7:]: tensor for name, tensor in saved.items()}\n"
                         "model.load_state_dict(saved)"),
        "silent": load("plain = {name.removeprefix('module.'): tensor for name, tensor in saved.items()}\n"
                       "model.load_state_dict(plain, strict=False)"),
        "order": load("pairs = zip(model.state_dict().values(), saved.values(), strict=True)\n"
                      "for mine, theirs in pairs:\n"
                      "    mine.copy_(theirs)"),
        "raises": load("model.load_state_dict(saved.module)"),
    },
    "bigger_model": {
        "true": "bigger_model = 'true'",
        "outdated": "bigger_model = 'outdated'",
        "word": "bigger_model = 'it depends'",
    },
    "right_shares": guesses(
        "right_shares", both="'both'", neither="'neither'", unequal="'only (6, 2)'", word="(4, 4)"
    ),
    "same_before_step": {
        "false": "same_before_step = 'false'",
        "outdated": "same_before_step = 'outdated'",
        "word": "same_before_step = 'yes'",
    },
    "all_reduce": {
        "rebound": reduce("total = sum(tensor.to('cuda:0') for tensor in tensors)\n"
                          "for gpu, tensor in enumerate(tensors):\n"
                          "    tensors[gpu] = total.to(tensor.device)"),
        "first": reduce("for tensor in tensors[1:]:\n    tensors[0].add_(tensor.to(tensors[0].device))"),
        "mean": reduce(STAR + "\n    tensor /= len(tensors)"),
        "own": reduce("new = [sum(o.to(t.device) for o in tensors if o is not t) for t in tensors]\n"
                      "for tensor, total in zip(tensors, new):\n    tensor.copy_(total)"),
        "twice": reduce("for tensor in tensors:\n    for other in tensors:\n        if other is not tensor:\n"
                        "            tensor += other.to(tensor.device)"),
        "moved": reduce("total = sum(tensor.to('cuda:0') for tensor in tensors)\n"
                        "for tensor in tensors:\n    tensor.data = total"),
        "rounded": reduce("total = sum(tensor.to('cuda:0').bfloat16().float() for tensor in tensors)\n"
                          "for tensor in tensors:\n    tensor.copy_(total)"),
        "equal": reduce("for tensor in tensors:\n    tensor.copy_(tensors[0])"),
        "count": reduce("partners = [tensors[gpu ^ 1].to(t.device) for gpu, t in enumerate(tensors)]\n"
                        "for tensor, partner in zip(tensors, partners):\n    tensor += partner"),
        "other": reduce("for gpu, tensor in enumerate(tensors):\n    tensor += gpu"),
        "raises": reduce("total = sum(tensors)\nfor tensor in tensors:\n    tensor.copy_(total)"),
    },
    "fair_all_reduce": {
        "remainder": fair(EQUAL_PARTS),
        "host": fair("total = sum(tensor.cpu() for tensor in tensors)\n"
                     "for tensor in tensors:\n    tensor.copy_(total)"),
        "uncounted": fair("lists = [tensor.tolist() for tensor in tensors]\n"
                          "totals = [sum(numbers) for numbers in zip(*lists)]\n"
                          "for tensor in tensors:\n"
                          "    tensor.copy_(torch.tensor(totals, device=tensor.device))"),
        "count": fair("total = tensors[0] + tensors[1].to(tensors[0].device)\n"
                      "for tensor, own in zip(tensors, [total, total], strict=True):\n"
                      "    tensor.copy_(own)"),
        "first": fair("for tensor in tensors[1:]:\n    tensors[0].add_(tensor.to(tensors[0].device))"),
        "twice": fair("total = tensors[0]\nfor tensor in tensors:\n    total += tensor.to(total.device)\n"
                      "for tensor in tensors:\n    tensor.copy_(total)"),
        "rebound": fair("for gpu, tensor in enumerate(tensors):\n"
                        "    tensors[gpu] = sum(other.to(tensor.device) for other in tensors)"),
    },
}  # fmt: skip
