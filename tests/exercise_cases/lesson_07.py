"""Answers to the exercises of lesson 07."""

RIGHT = {
    "after_all_reduce": [
        "exercise.after_all_reduce.guess((30.0, 30))",
    ],
    "same_curve": [
        "exercise.same_curve.guess('The same')",
    ],
    "through_one_gpu": [
        "exercise.through_one_gpu.guess(1.598)",
    ],
    "sampler_by_hand": [
        """
def sampler_by_hand(n, world, rank, epoch, drop_last):
    order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch)).tolist()
    each = n // world if drop_last else math.ceil(n / world)
    padded = (order * world)[: each * world]
    return padded[rank::world]
""",
        """
def sampler_by_hand(n, world, rank, epoch, drop_last):
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0 + epoch))
    each = n // world if drop_last else math.ceil(n / world)
    padded = order[torch.arange(each * world) % n]
    return padded[rank::world].tolist()
""",
        """
def sampler_by_hand(n, world, rank, epoch, drop_last):
    order = list(torch.randperm(n, generator=torch.Generator().manual_seed(epoch)))
    if drop_last:
        order = order[:n - n % world]
    while len(order) % world:
        order += order[:world - len(order) % world]
    for i in range(rank, len(order), world):
        yield order[i]
""",
        """
def sampler_by_hand(n, world, rank, epoch, drop_last):
    g = torch.Generator(); g.manual_seed(0 + epoch)
    order = torch.randperm(n, generator=g).tolist()
    size = (n // world if drop_last else math.ceil(n / world)) * world
    while len(order) < size: order += order[: size - len(order)]
    return order[rank:size:world]
""",
    ],
    "accumulate_ddp": [
        """
def accumulate_ddp(model, optimizer, parts):
    optimizer.zero_grad()
    for i, (x, y) in enumerate(parts):
        with model.no_sync() if i < len(parts) - 1 else torch.enable_grad():
            loss = F.cross_entropy(model(x), y) / len(parts)
            loss.backward()
        pass
    optimizer.step()
""",
        """
def accumulate_ddp(model, optimizer, parts):
    model.zero_grad()
    for i, (x, y) in enumerate(parts):
        model.require_backward_grad_sync = i == len(parts) - 1
        F.cross_entropy(model(x), y).div(len(parts)).backward()
    optimizer.step()
""",
        """
def accumulate_ddp(model, optimizer, parts):
    optimizer.zero_grad()
    with model.no_sync():
        for x, y in parts:
            (F.cross_entropy(model(x), y) / len(parts)).backward()
    for p in model.parameters():
        dist.all_reduce(p.grad, dist.ReduceOp.AVG)
    optimizer.step()
""",
        """
def accumulate_ddp(model, optimizer, parts):
    optimizer.zero_grad()
    for i, (x, y) in enumerate(parts):
        with model.no_sync() if i < len(parts) - 1 else torch.enable_grad():
            loss = F.cross_entropy(model(x), y)
            loss.backward()
        if i == len(parts) - 1: [p.grad.div_(len(parts)) for p in model.parameters()]
    optimizer.step(); optimizer.zero_grad()
""",
        """
def accumulate_ddp(model, optimizer, parts):
    optimizer.zero_grad()
    *first, last = parts
    with model.no_sync():
        for x, y in first:
            F.cross_entropy(model(x), y).div(len(parts)).backward()
    F.cross_entropy(model(last[0]), last[1]).div(len(parts)).backward()
    optimizer.step()
""",
    ],
    "exact_accuracy": [
        """
def exact_accuracy(model, x, y):
    rank, world = dist.get_rank(), dist.get_world_size()
    right = (model(x[rank::world]).argmax(1) == y[rank::world])
    counts = torch.tensor([right.sum(), len(right)])
    dist.all_reduce(counts)
    return (counts[0] / counts[1]).item()
""",
        """
def exact_accuracy(model, x, y):
    rank, world = dist.get_rank(), dist.get_world_size()
    right = (model(x[rank::world]).argmax(1) == y[rank::world])
    every = [None] * world
    dist.all_gather_object(every, right.tolist())
    flat = sum(every, [])
    return sum(flat) / len(flat)
""",
        """
def exact_accuracy(model, x, y):
    rank, world = dist.get_rank(), dist.get_world_size()
    mine = torch.tensor(list(DistributedSampler(y, shuffle=False)))
    right = (model(x[mine]).argmax(1) == y[mine]).float()
    every = torch.empty(world * len(right))
    dist.all_gather_into_tensor(every, right)
    return every.view(world, -1).T.flatten()[:len(y)].mean()
""",
        """
def exact_accuracy(model, x, y):
    rank, world = dist.get_rank(), dist.get_world_size()
    rows = torch.arange(len(y)).tensor_split(world)[rank]
    total = (model(x[rows]).argmax(1) == y[rows]).sum()
    dist.reduce(total, dst=0)
    dist.broadcast(total, src=0)
    return total.item() / len(y)
""",
        """
def exact_accuracy(model, x, y):
    r, n = dist.get_rank(), dist.get_world_size()
    hits = torch.zeros(1)
    if len(y[r::n]): hits += (model(x[r::n]).argmax(1) == y[r::n]).float().sum()
    dist.all_reduce(hits)
    return hits.item() / len(y)
""",
    ],
    "save_once": [
        """
def save_once(model, file):
    state = model.module.state_dict()
    if dist.get_rank() == 0:
        part = file.with_name('new.pt')
        torch.save(state, part)
        os.replace(part, file)
    dist.barrier()
""",
        """
def save_once(model, file):
    state = model.module.state_dict()
    if dist.get_rank() == 0:
        part = str(file) + '.part'
        with open(part, 'wb') as f:
            torch.save(state, f)
        Path(part).rename(file)
    dist.barrier()
""",
        """
def save_once(model, file):
    state = model.module.state_dict()
    if dist.get_rank() == 0:
        handle, part = tempfile.mkstemp(dir=file.parent)
        os.close(handle)
        torch.save(state, part)
        os.rename(part, file)
    dist.all_reduce(torch.zeros(1))
""",
        """
def save_once(model, file):
    state = model.module.state_dict()
    if dist.get_rank() > 0:
        dist.barrier()
        return
    part = file.with_name('new.pt')
    torch.save(state, part)
    os.replace(part, file)
    dist.barrier()
""",
        """
def save_once(model, file):
    if dist.get_rank() == 0:
        tmp = str(file) + ".tmp"
        torch.save(model.module.state_dict(), tmp)
        os.replace(tmp, file)
    dist.barrier()
""",
    ],
    "scaled_up": [
        """
def scaled_up(samples, batch, gpus, rate):
    return math.ceil(samples / (batch * gpus)), gpus * rate
""",
        """
def scaled_up(samples, batch, gpus, rate):
    return -(samples // -(batch * gpus)), rate * (batch * gpus / batch)
""",
        """
def scaled_up(samples, batch, gpus, rate):
    return math.ceil(math.ceil(samples / gpus) / batch), gpus * rate
""",
        """
def scaled_up(samples, batch, gpus, rate):
    return len(range(0, samples, batch * gpus)), gpus * rate
""",
    ],
    "gpus_needed": [
        """
def gpus_needed(parameters, block, memory):
    total, room = 16 * parameters, memory - 8 * block
    if room <= 0:
        return None
    return -(-total // room)
""",
        """
def gpus_needed(parameters, block, memory):
    total, room = 16 * parameters, memory - 8 * block
    if room <= 0:
        return None
    return (total + room - 1) // room
""",
        """
def gpus_needed(parameters, block, memory):
    total, room = 16 * parameters, memory - 8 * block
    if room <= 0:
        return None
    return math.ceil(total / room)
""",
        """
def gpus_needed(parameters, block, memory):
    room = memory - 8 * block
    if room > 0:
        whole, rest = divmod(16 * parameters, room)
        return whole + (rest > 0)
""",
    ],
    "which_tool": [
        """
which_tool = {
    'it fits and trains overnight; you have one GPU': 'one gpu',
    'it fits; 8 GPUs here, the training should take days, not weeks': 'DistributedDataParallel',
    'it fits; two GPUs, and it must stay in a running notebook for an hour': 'data parallel',
    'a layer fits, all weights with Adam do not; 16 GPUs': 'FSDP2',
    'a single layer is larger than a GPU; 8 GPUs in one machine': 'model parallel',
}
""",
    ],
    "small_talk": [
        """
def small_talk(state, bucket):
    world, g = dist.get_world_size(), bucket.buffer() + state.get(bucket.index(), 0)

    k = len(g) // 10
    places = g.abs().topk(k).indices
    numbers = g[places]
    state[bucket.index()] = g.index_fill(0, places, 0.0)
    every, where = [[torch.empty_like(t) for _ in range(world)] for t in (numbers, places)]
    dist.all_gather(every, numbers)
    dist.all_gather(where, places)
    mean = torch.zeros_like(g).index_add_(0, torch.cat(where), torch.cat(every)) / world
    future = torch.futures.Future()
    future.set_result(mean)
    return future
""",
        """
def small_talk(state, bucket):
    return bf16_compress_hook(dist.group.WORLD, bucket)
""",
        """
def small_talk(state, bucket):
    world, g = dist.get_world_size(), bucket.buffer()
    mean = (g / world).bfloat16()
    dist.all_reduce(mean)
    mean = mean.float()
    future = torch.futures.Future()
    future.set_result(mean)
    return future
""",
        """
def small_talk(state, bucket):
    world, g = dist.get_world_size(), bucket.buffer() + state.get(bucket.index(), 0)
    n = state['n', bucket.index()] = state.get(('n', bucket.index()), 0) + 1
    mean = g / world if n % 2 else torch.zeros_like(g)
    state[bucket.index()] = torch.zeros_like(g) if n % 2 else g
    if n % 2:
        dist.all_reduce(mean)
    future = torch.futures.Future()
    future.set_result(mean)
    return future
""",
        """
def small_talk(state, bucket):
    t = bucket.buffer().half().div_(dist.get_world_size())
    dist.all_reduce(t)
    f = torch.futures.Future(); f.set_result(t.float()); return f
""",
    ],
}

WRONG = {
    "after_all_reduce": [
        ("other", "exercise.after_all_reduce.guess([60, 60])"),
    ],
    "rank_three_gets": [
        ("other", "exercise.rank_three_gets.guess([2, 6, 0])"),
    ],
    "sampler_by_hand": [
        (
            "other",
            """
def sampler_by_hand(n, world, rank, epoch, drop_last):
    order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch + 1)).tolist()
    each = n // world if drop_last else math.ceil(n / world)
    padded = (order * world)[: each * world]
    return padded[rank::world]
""",
        ),
        (
            "raises",
            """
def sampler_by_hand(n, world, rank, epoch, drop_last):
    order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch)).tolist()
    each = n // world if drop_last else math.ceil(n / world)
    padded = (order * world)[: each * world]
    return padded[rank:world:][0:]()
""",
        ),
        (
            "global",
            """
def sampler_by_hand(n, world, rank, epoch, drop_last):
    torch.manual_seed(epoch)
    order = torch.randperm(n).tolist()
    return order[rank::world]
""",
        ),
    ],
    "accumulate_ddp": [
        (
            "raises",
            """
def accumulate_ddp(model, optimizer, parts):
    optimizer.zero_grad()
    for i, (x, y) in enumerate(parts):
        with model.no_sync() if i < len(parts) - 1 else torch.enable_grad():
            loss = F.cross_entropy(model(x), y, parts)
            loss.backward()
        pass
    optimizer.step()
""",
        ),
        (
            "sum",
            """
def accumulate_ddp(model, optimizer, parts):
    optimizer.zero_grad()
    for x, y in parts:
        F.cross_entropy(model(x), y).backward()
    optimizer.step()
""",
        ),
    ],
    "exact_accuracy": [
        (
            "raises",
            """
def exact_accuracy(model, x, y):
    rank, world = dist.get_rank(), dist.get_world_size()
    return model(x[rank:world]).item()
""",
        ),
        (
            "own",
            """
def exact_accuracy(model, x, y):
    r, n = dist.get_rank(), dist.get_world_size()
    return (model(x[r::n]).argmax(1) == y[r::n]).float().mean().item()
""",
        ),
    ],
    "save_once": [
        (
            "other",
            """
def save_once(model, file):
    state = model.module.state_dict()
    if dist.get_rank() == 0:
        part = file.with_name('new.pt')
        torch.save({'model': state}, part)
        os.replace(part, file)
    dist.barrier()
""",
        ),
        (
            "raises",
            """
def save_once(model, file):
    state = model.module.state_dict()
    if dist.get_rank() == 0:
        part = file.with_name('new.pt')
        torch.save(state, part)
        os.move(part, file)
    dist.barrier()
""",
        ),
        (
            "never_comes",
            """
def save_once(model, file):
    if dist.get_rank() == 0:
        torch.save(model.module.state_dict(), file)
        dist.barrier()
""",
        ),
    ],
    "epochs_begun": [
        ("other", "exercise.epochs_begun.guess(9)"),
    ],
    "through_one_gpu": [
        ("other", "exercise.through_one_gpu.guess(3)"),
    ],
    "scaled_up": [
        (
            "raises",
            """
def scaled_up(samples, batch, gpus, rate):
    return len(samples), gpus * rate
""",
        ),
        (
            "floor",
            """
def scaled_up(samples, batch, gpus, rate):
    return samples // batch // gpus, rate * gpus
""",
        ),
    ],
    "gpus_needed": [
        (
            "other",
            """
def gpus_needed(parameters, block, memory):
    total, room = 100 * parameters, memory - 8 * block
    if room <= 0:
        return None
    return -(-total // room)
""",
        ),
        (
            "raises",
            """
def gpus_needed(parameters, block, memory):
    total, room = 16 * parameters, memory - 8 * block
    if room <= 0:
        return None
    return room.ceil()
""",
        ),
    ],
    "small_talk": [
        (
            "raises",
            """
def small_talk(state, bucket):
    dist.all_reduce(bucket.buffer())
""",
        ),
        (
            "worse",
            """
def small_talk(state, bucket):
    t = bucket.buffer()
    top = t.abs().topk(max(1, len(t) // 50)).indices
    sparse = torch.zeros_like(t); sparse[top] = t[top]
    dist.all_reduce(sparse)
    f = torch.futures.Future(); f.set_result(sparse / dist.get_world_size()); return f
""",
        ),
    ],
}
