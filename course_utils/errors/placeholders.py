"""What the placeholders in the answers stand for, worked out from the groups of a pattern's match."""

import re

_LABELS = ("the labels", "Move the labels: labels = labels.to(device).")
_MODEL = "Move the model: model.to(device)."
# (end of the kernel's name, argument) -> what that is in the reader's code, what to do if it stayed behind
_MEANINGS = {
    ("addmm", "mat1"): ("the input of a Linear layer", "Move the input: x = x.to(device)."),
    ("addmm", "mat2"): ("the weight of a Linear layer", _MODEL),
    ("addmm", "self"): ("the bias of a Linear layer", _MODEL),
    ("mm", "mat2"): ("the right-hand matrix", ""),
    ("nll_loss_forward", "target"): _LABELS,
    ("nll_loss2d_forward", "target"): _LABELS,
    ("nll_loss_forward", "weight"): ("the class weights of the loss", "Move the loss: criterion.to(device)."),
    ("index_select", "index"): ("the indices, as of an Embedding layer", "Move them: x = x.to(device)."),
    ("batch_norm", "weight"): ("the weight of a BatchNorm layer", _MODEL),
    ("layer_norm", "weight"): ("the weight of a LayerNorm layer", _MODEL),
    ("convolution", "weight"): ("the weight of a convolution", _MODEL),
    ("cat", "tensors"): ("one tensor of the list", ""),
}


def fill(match: re.Match[str]) -> dict[str, str]:
    """Return what the placeholders of an answer stand for, from the groups of a match."""
    values = {name: text or "" for name, text in match.groupdict().items()}
    meaning, cure = _meaning(values.get("method", ""), values.get("argument", ""))
    if values.get("others") == "cpu":  # then the others stayed behind, not the one that is named
        cure = ""
    which, room, cache, supports = "", "", "", ""
    if values.get("argument"):
        which = f"; the message names the argument {values['argument']}{meaning}"
    if values.get("asked"):
        room = f" for {values['asked']} more"
    if values.get("total"):
        limit = f" and lends this process {values['allowed']}" if values["allowed"] else ""
        room += f": GPU {values['gpu']} has {values['total']}{limit}, and tensors hold {values['held']} of it"
        if _bytes(values["cached"]) >= _bytes(values["asked"]):
            cache = " Much is reserved but unused: PYTORCH_ALLOC_CONF=expandable_segments:True may help."
    if values.get("version"):
        version = int(values["version"])
        supports = f": it knows CUDA up to {version // 1000}.{version % 1000 // 10}"
    out_of_memory = {"room": room, "cache": cache}
    return values | out_of_memory | {"meaning": meaning, "cure": cure, "which": which, "supports": supports}


def _meaning(method: str, argument: str) -> tuple[str, str]:
    """Say what an argument of a kernel is, as in " (the labels)", and its cure; "" for what is unknown."""
    for (kernel, name), (words, cure) in _MEANINGS.items():
        if name == argument and re.search(rf"_{kernel}_*$", method):
            return f" ({words})", cure
    return "", ""


def _bytes(size: str) -> float:
    """Turn "1.50 GiB" into bytes."""
    number, unit = size.split()
    return float(number) * {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}.get(unit, 0)
