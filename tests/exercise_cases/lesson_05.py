"""Answers to the exercises of lesson 05."""

RIGHT = {
    "how_combined": [
        "exercise.how_combined.guess('Added up')",
    ],
    "right_shares": [
        "exercise.right_shares.guess('only (4,4)')",
    ],
    "split_by_hand": [
        """
def split_by_hand(batch, gpus):
    sizes, size = [], math.ceil(batch / gpus)
    while sum(sizes) < batch:
        sizes.append(min(size, batch - sum(sizes)))
    return sizes
""",
        """
def split_by_hand(batch, gpus):
    full = -(-batch // gpus)
    return list(numpy.diff(numpy.minimum(numpy.arange(0, batch + full, full), batch)))
""",
        """
def split_by_hand(batch, gpus):
    full = (batch + gpus - 1) // gpus
    rest = batch % full
    return [full] * (batch // full) + ([rest] if rest else [])
""",
        """
def split_by_hand(batch, gpus):
    size = -(-batch // gpus)
    return tuple(min(size, batch - i * size) for i in range(-(-batch // size)))
""",
        """
def split_by_hand(batch, gpus):
    size, parts = (batch + gpus - 1) // gpus, []
    while batch > 0:
        parts.append(min(size, batch)); batch -= size
    return parts
""",
    ],
    "good_batch_size": [
        "good_batch_size = 54",
        "good_batch_size = numpy.arange(49, 60)[5]",
    ],
    "load_saved": [
        """
def load_saved(model, saved):
    saved = dict(saved)
    consume_prefix_in_state_dict_if_present(saved, 'module.')
    model.load_state_dict(saved)
""",
        """
def load_saved(model, saved):
    consume_prefix_in_state_dict_if_present(saved, 'module.')
    model.load_state_dict(saved)
""",
        """
def load_saved(model, saved):
    wrapped = all(name.startswith('module.') for name in saved)
    (nn.DataParallel(model) if wrapped else model).load_state_dict(saved)
""",
        """
def load_saved(model, saved):
    names = {name: name[7:] if name.startswith('module.') else name for name in saved}
    model.load_state_dict({names[name]: tensor for name, tensor in saved.items()})
""",
        """
def load_saved(model, saved):
    for name in list(saved):
        if name.startswith('module.'):
            saved[name.split('module.', 1)[1]] = saved.pop(name)
    model.load_state_dict(saved)
""",
        """
def load_saved(model, saved):
    try:
        model.load_state_dict(saved)
    except RuntimeError:
        model.load_state_dict({name.removeprefix('module.'): t for name, t in saved.items()})
""",
        """
def load_saved(model, saved):
    import re
    plain = OrderedDict((re.sub("^module[.]", "", k), v) for k, v in saved.items())
    model.load_state_dict(plain, strict=True)
""",
    ],
    "all_reduce": [
        """
def all_reduce(tensors):
    copies = [[t.to(place.device, copy=True) for t in tensors] for place in tensors]
    for tensor, copy in zip(tensors, copies):
        tensor.copy_(torch.stack(copy).sum(0))
""",
        """
def all_reduce(tensors):
    for tensor in tensors[1:]:
        tensors[0].add_(tensor.to(tensors[0].device))
    for tensor in tensors[1:]:
        tensor[...] = tensors[0]
""",
        """
def all_reduce(tensors):
    total = sum(tensor.cpu() for tensor in tensors)
    for tensor in tensors:
        tensor.copy_(total)
""",
        """
def all_reduce(tensors):
    sums = [sum(o.to(t.device) for o in tensors) for t in tensors]
    for tensor, total in zip(tensors, sums):
        tensor.data = total
""",
        """
def all_reduce(tensors):
    total = parallel.comm.reduce_add(tensors, 0)
    gpus = [tensor.device.index for tensor in tensors]
    for tensor, own in zip(tensors, parallel.comm.broadcast(total, gpus)):
        tensor.copy_(own)
""",
        """
def all_reduce(tensors):
    total = torch.stack([t.cpu() for t in tensors]).sum(0)
    for t in tensors: t[:] = total.to(t.device)
""",
    ],
    "fair_all_reduce": [
        """
def fair_all_reduce(tensors):

    total = sum(tensor.to(tensors[0].device) for tensor in tensors)
    for tensor in tensors:
        tensor.copy_(total)
""",
        """
def fair_all_reduce(tensors):

    n = len(tensors)
    parts = [list(tensor.tensor_split(n)) for tensor in tensors]
    for step in range(n - 1):
        for gpu in range(n):
            part, right = (gpu - step) % n, (gpu + 1) % n
            parts[right][part] += parts[gpu][part].to(tensors[right].device)
    for step in range(n - 1):
        for gpu in range(n):
            part, right = (gpu + 1 - step) % n, (gpu + 1) % n
            parts[right][part].copy_(parts[gpu][part])
""",
    ],
}

WRONG = {
    "first_split": [
        ("order", "exercise.first_split.guess([2, 4, 4, 4, 4, 4, 4, 4])"),
        ("other", "exercise.first_split.guess([3, 3, 3, 3, 3, 3, 3, 9])"),
    ],
    "last_batch": [
        ("other", "exercise.last_batch.guess([1, 1, 1, 1, 1, 1, 1, 3])"),
    ],
    "split_by_hand": [
        (
            "other",
            """
def split_by_hand(batch, gpus):
    return [4, 4, 4, 4, 4, 4, 4, 2]
""",
        ),
        (
            "raises",
            """
def split_by_hand(batch, gpus):
    return batch.chunk(gpus)
""",
        ),
        (
            "other",
            """
def split_by_hand(batch, gpus):
    size = round(batch / gpus)
    return [size] * (gpus - 1) + [batch - size * (gpus - 1)]
""",
        ),
        (
            "even",
            """
def split_by_hand(batch, gpus):
    q, r = divmod(batch, gpus)
    return [q + 1] * r + [q] * (gpus - r)
""",
        ),
    ],
    "load_saved": [
        (
            "raises",
            """
def load_saved(model, saved):
    model.load_state_dict(saved.module)
""",
        ),
        (
            "plain",
            """
def load_saved(model, saved):
    model.load_state_dict({k.split(".", 1)[1]: v for k, v in saved.items()})
""",
        ),
        (
            "plain",
            """
def load_saved(model, saved):
    nn.DataParallel(model).load_state_dict(saved)
""",
        ),
    ],
    "all_reduce": [
        (
            "other",
            """
def all_reduce(tensors):
    for gpu, tensor in enumerate(tensors):
        tensor += gpu
""",
        ),
        (
            "raises",
            """
def all_reduce(tensors):
    total = sum(tensors)
    for tensor in tensors:
        tensor.copy_(total)
""",
        ),
        (
            "rebound",
            """
def all_reduce(tensors):
    total = sum(t.cpu() for t in tensors)
    for i, t in enumerate(tensors): t = total.to(t.device)
""",
        ),
        (
            "mean",
            """
def all_reduce(tensors):
    total = torch.stack([t.cpu() for t in tensors]).mean(0)
    for t in tensors: t.copy_(total)
""",
        ),
    ],
    "fair_all_reduce": [
        (
            "other",
            """
def fair_all_reduce(tensors):
    n = len(tensors); size = len(tensors[0]) // n
    for g, t in enumerate(tensors):
        s = slice(g * size, (g + 1) * size)
        total = sum(o[s].to(t.device) for o in tensors)
        for o in tensors: o[s].copy_(total)
""",
        ),
    ],
}
