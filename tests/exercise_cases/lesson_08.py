"""Answers to the exercises of lesson 08."""

RIGHT = {
    "busy_share": [
        """
def busy_share(kernels, start, end):
    times = sorted({start, end, *(min(max(t, start), end) for pair in kernels for t in pair)})
    busy = [b - a for a, b in zip(times, times[1:]) if any(s <= a < b <= e for s, e in kernels)]
    return sum(busy) / (end - start)
""",
        """
def busy_share(kernels, start, end):
    marks = [(a, 1) for a, b in kernels] + [(b, -1) for a, b in kernels] + [(start, 0), (end, 0)]
    running, last, busy = 0, start, 0.0
    for when, change in sorted(marks):
        when = min(max(when, start), end)
        if running:
            busy += when - last
        running, last = running + change, when
    return torch.tensor(busy / (end - start), dtype=torch.float64)
""",
        """
def busy_share(kernels, start, end):
    merged = []
    kernels.sort(key=lambda kernel: kernel[0])
    for begin, stop in kernels:
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([begin, stop])
    spans = [(max(a, start), min(b, end)) for a, b in merged]
    return np.float64(sum(b - a for a, b in spans if b > a) / (end - start))
""",
        """
def busy_share(kernels, start, end):
    total, last = 0.0, start
    for a, b in sorted(kernels, key=lambda k: k[0]):
        a, b = max(a, last), min(b, end)
        total += max(0, b - a); last = max(last, b)
    return total / (end - start)
""",
    ],
    "intensity": [
        """
def intensity(layer, x):
    with FlopCounterMode(display=False) as counter:
        out = layer(x)
    return counter.get_total_flops() / sum(t.nbytes for t in (x, layer.weight, out))
""",
        """
def intensity(layer, x):
    n, _, h, w = x.shape
    (kh, kw), (sh, sw), (ph, pw) = layer.kernel_size, layer.stride, layer.padding
    h, w = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
    flop = 2 * n * layer.out_channels * h * w * layer.in_channels // layer.groups * kh * kw
    weights = layer.out_channels * layer.in_channels // layer.groups * kh * kw
    return torch.tensor(flop / 4 / (x.numel() + weights + n * layer.out_channels * h * w))
""",
        """
def intensity(layer, x):
    y = layer(x)
    k = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels // layer.groups
    return 2.0 * k * y.numel() / (4 * (x.numel() + y.numel() + layer.weight.numel()))
""",
    ],
    "honest_benchmark": [
        """
def honest_benchmark(new_model, train_epoch, accuracy, train, test, seeds, epochs):
    results = []
    for seed in seeds:
        torch.manual_seed(seed)
        train_epoch(new_model(), train)
        model = new_model()
        torch.cuda.synchronize()
        start = time.time()
        for _ in range(epochs):
            train_epoch(model, train)
        torch.cuda.synchronize()
        seconds = time.time() - start
        results.append([accuracy(model, test), seconds])
    return torch.tensor(results, dtype=torch.float64).mean(0)
""",
        """
def honest_benchmark(new_model, train_epoch, accuracy, train, test, seeds, epochs):
    train_epoch(new_model(), train)
    accuracies, total = [], 0.0
    for seed in seeds:
        torch.manual_seed(seed)
        model = new_model()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(epochs):
            train_epoch(model, train)
        end.record()
        end.synchronize()
        total += begin.elapsed_time(end) / 1000
        accuracies.append(accuracy(model, test))
    return np.mean(accuracies), total / len(seeds)
""",
        """
def honest_benchmark(new_model, train_epoch, accuracy, train, test, seeds, epochs):
    train_epoch(new_model(), train)
    watch, right = Stopwatch("cuda"), 0
    for seed in seeds:
        torch.manual_seed(seed)
        model = new_model()
        for _ in range(epochs):
            with watch("training"):
                train_epoch(model, train)
            seen = accuracy(model, test)  # to look at, outside of the clock
        right += seen
    return {"accuracy": right / len(seeds), "seconds": watch.seconds["training"] / len(seeds)}.values()
""",
    ],
    "no_waiting": [
        '''
def no_waiting(model, optimizer, pictures, labels, size):
    """Train on every picture once; return the mean loss and the share of right answers."""
    losses, right = [], 0
    for x, y in zip(pictures.split(size), labels.split(size), strict=True):
        scores = model((x / 255 - 0.5) / 0.25)
        loss = nn.functional.cross_entropy(scores, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        right += (scores.argmax(1) == y).sum()
    mean = torch.stack(losses).mean().item()  # here Python waits, once
    if math.isnan(mean):
        raise ValueError("The loss is not a number.")
    return torch.tensor(mean), right / len(labels)
''',
        """
def no_waiting(model, optimizer, pictures, labels, size):
    centre = torch.tensor([0.5, 0.5, 0.5], device=pictures.device).view(3, 1, 1)
    total = torch.zeros(3, device=pictures.device)
    for start in range(0, len(labels), size):
        x, y = pictures[start : start + size], labels[start : start + size]
        scores = model((x / 255 - centre) / 0.25)
        loss = F.cross_entropy(scores, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            total += torch.stack([loss, (scores.argmax(1) == y).sum(), torch.ones_like(loss)])
    loss, right, count = total.tolist()
    if loss != loss:
        raise ValueError("not a number")
    print(f"loss {loss / count:.3f}")
    return loss / count, right / len(labels)
""",
        """
def no_waiting(model, optimizer, pictures, labels, size):
    all_scores, losses = [], []
    for x, y in zip((pictures / 255 - 0.5).mul(4).split(size), labels.split(size)):
        all_scores.append(model(x))
        losses.append(nn.functional.cross_entropy(all_scores[-1], y))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    losses = torch.stack(losses).cpu()
    if losses.isnan().any():
        raise ValueError(f"The loss is not a number in step {int(losses.isnan().nonzero()[0])}.")
    return losses.mean(), (torch.cat(all_scores).argmax(1) == labels).float().mean()
""",
    ],
    "alternating_flip": [
        """
def alternating_flip(batch, rows, first, epoch):
    flip = [bool(first[row]) != bool(epoch % 2) for row in rows.tolist()]
    return torch.stack([picture.flip(-1) if f else picture for picture, f in zip(batch, flip)])
""",
        """
def alternating_flip(batch, rows, first, epoch):
    flip = (~first if epoch % 2 else first)[rows]
    batch = batch.clone()
    batch[flip] = batch[flip].flip(3)
    return batch
""",
        """
def alternating_flip(batch, rows, first, epoch):
    columns = torch.arange(32)
    turn = (first[rows].long() + epoch)[:, None] % 2
    columns = columns + turn * (31 - 2 * columns)
    columns = columns[:, None, None, :]
    return batch.gather(3, columns.expand_as(batch))
""",
    ],
    "always_compile": [],
    "static_batch": [
        """
def static_batch(step, batches, graph):
    x, y = torch.empty_like(batches[0][0]), torch.empty_like(batches[0][1])
    x.copy_(batches[0][0]), y.copy_(batches[0][1])
    with graph.capture():
        loss = step(x, y)
    losses = torch.empty(len(batches))
    for number, batch in enumerate(batches):
        x[:], y[:] = batch
        graph.replay()
        losses[number] = loss
    return losses
""",
        '''
def static_batch(step, batches, graph):
    """Capture one training step, replay it for every batch; return the loss of each."""
    x, y = (part.clone() for part in batches[0])  # the graph's own memory
    with graph.capture():
        loss = step(x, y)
    losses = []
    for new_x, new_y in batches:
        x.zero_().add_(new_x)
        y.copy_(new_y)
        graph.replay()
        losses.append(loss.item())
    return losses
''',
    ],
    "triangle_rates": [
        """
def triangle_rates(pictures, batch, epochs, top, peak):
    n = epochs * -(-pictures // batch)
    return top * np.interp(np.arange(n), [0, peak * n, n], [0.2, 1, 0])
""",
        """
def triangle_rates(pictures, batch, epochs, top, peak):
    n = epochs * -(-pictures // batch)
    return list(top * np.interp(range(n), [0, int(peak * n), n - 1], [0.2, 1, 0]))
""",
        """
def triangle_rates(pictures, batch, epochs, top, peak):
    steps = epochs * len(torch.arange(pictures).split(batch))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=top)
    up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.2, 1, total_iters=round(peak * steps))
    down = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=steps - round(peak * steps))
    both = torch.optim.lr_scheduler.SequentialLR(optimizer, [up, down], [round(peak * steps)])
    rates = []
    for _ in range(steps):
        rates.append(both.get_last_lr()[0])
        optimizer.step()
        both.step()
    return rates
""",
        """
def triangle_rates(pictures, batch, epochs, top, peak):
    n = -(-pictures // batch) * epochs; k = max(1, round(peak * n)); out = []
    for i in range(n):
        out.append(top * (0.2 + 0.8 * i / k) if i <= k else top * (n - i) / (n - k))
    return out
""",
    ],
    "whiten_patches": [
        """
def whiten_patches(pictures, size):
    patches = pictures.unfold(2, size, 1).unfold(3, size, 1)
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * size**2)
    patches = patches.double()
    covariance = patches.T @ patches / len(patches) + 5e-4 * torch.eye(3 * size**2)
    return torch.linalg.inv(torch.linalg.cholesky(covariance)).float().reshape(-1, 3, size, size)
""",
        """
def whiten_patches(pictures, size):
    patches = F.unfold(pictures, size).transpose(0, 1).flatten(1)
    covariance = torch.from_numpy(np.cov(patches.numpy())).float()
    directions, variances, _ = torch.linalg.svd(covariance)
    white = directions @ torch.diag((variances + 5e-4) ** -0.5) @ directions.T
    return nn.Parameter(white.view(-1, 3, size, size), requires_grad=False)
""",
        """
def whiten_patches(pictures, size):
    patches = F.unfold(pictures[:300], size).permute(0, 2, 1).reshape(-1, 3 * size**2)
    patches = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh(patches.T @ patches / (len(patches) - 1))
    filters = torch.stack([v / math.sqrt(max(x, 0) + 5e-4) for v, x in zip(vectors.T, values.tolist())])
    return filters.unflatten(1, (3, size, size))
""",
        """
def whiten_patches(pictures, size):
    p = nn.functional.unfold(pictures, size).permute(0, 2, 1).reshape(-1, 3 * size * size)
    c = torch.cov(p.T); u, s, _ = torch.linalg.svd(c)
    return (u / torch.sqrt(s + 5e-4)).T.reshape(-1, 3, size, size)
""",
    ],
    "fewest_operations": [
        """
def fewest_operations(pictures, labels):
    layers, last = [nn.AvgPool2d(2)], 3
    for width in (12, 24, 48):
        layers += [nn.Conv2d(last, width, 3, padding=1), nn.BatchNorm2d(width), nn.GELU(), nn.MaxPool2d(2)]
        last = width
    model = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(10))
    optimizer = torch.optim.AdamW(list(model.train().parameters()), 5e-3)
    for epoch in range(9):
        for rows in torch.randperm(len(labels)).split(40):
            x = pictures[rows] if epoch % 2 else pictures[rows].flip(3)
            loss = F.cross_entropy(model(x), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return lambda x: model.eval()(x) + model(x.flip(3))
""",
    ],
}

WRONG = {
    "busy_share": [
        (
            "other",
            '''
def busy_share(kernels, start, end):
    """Return the share of the time from `start` to `end` in which at least one kernel runs."""
    worked, reached = 0, start
    for begin, stop in sorted(kernels):
        begin, stop = max(begin, reached), min(stop, end)
        if begin < stop:
            worked += stop - begin
            reached = stop
    return 0.5 * worked / (end - start)
''',
        ),
        (
            "raises",
            '''
def busy_share(kernels, start, end):
    """Return the share of the time from `start` to `end` in which at least one kernel runs."""
    worked, reached = 0, start
    for begin, stop in kernels.sort():
        begin, stop = max(begin, reached), min(stop, end)
        if begin < stop:
            worked += stop - begin
            reached = stop
    return worked / (end - start)
''',
        ),
        (
            "twice",
            """
def busy_share(kernels, start, end):
    return sum(min(b, end) - max(a, start) for a, b in kernels) / (end - start)
""",
        ),
    ],
    "intensity": [
        (
            "other",
            """
def intensity(layer, x):
    out = layer(x)
    numbers = x.numel() + layer.weight.numel() + out.numel()
    return 3 * 2 * out.numel() * layer.weight[0].numel() / (4 * numbers)
""",
        ),
        (
            "other",
            """
def intensity(layer, x):
    y = layer(x)
    return 2 * y.numel() / (4 * (x.numel() + y.numel() + layer.weight.numel()))
""",
        ),
    ],
    "honest_benchmark": [
        (
            "raises",
            '''
def honest_benchmark(new_model, train_epoch, accuracy, train, test, seeds, epochs):
    """Return the mean test accuracy and the mean seconds of a training, on a GPU."""
    train_epoch(new_model(), train)  # compiles, on a model that is thrown away
    accuracies, seconds = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        model = new_model()
        torch.accelerator.synchronize()
        start = time.perf_counter()
        for _ in range(epochs):
            train_epoch(model, train)
        torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - begin)
        accuracies.append(accuracy(model, test))
    return sum(accuracies) / len(accuracies), sum(seconds) / len(seconds)
''',
        ),
        (
            "lucky",
            """
def honest_benchmark(new_model, train_epoch, accuracy, train, test, seeds, epochs):
    accs, times = [], []
    for seed in seeds:
        torch.manual_seed(seed); model = new_model()
        start = time.perf_counter()
        for _ in range(epochs): train_epoch(model, train)
        times.append(time.perf_counter() - start); accs.append(accuracy(model, test))
    return max(accs), min(times)
""",
        ),
    ],
    "no_waiting": [
        (
            "raises",
            '''
def no_waiting(model, optimizer, pictures, labels, size):
    """Train on every picture once; return the mean loss and the share of right answers."""
    losses, right = [], 0
    for x, y in zip(pictures.split(size), labels.split(size), strict=True):
        scores = model((x / 255 - 0.5) / 0.25)
        loss = nn.functional.cross_entropy(scores, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        right += (scores.argmax(1) == y).sum()
    mean = torch.stack(loss).mean().item()  # here Python waits, once
    if math.isnan(mean):
        raise ValueError("The loss is not a number.")
    return mean, right.item() / len(labels)
''',
        ),
        (
            "number",
            """
def no_waiting(model, optimizer, pictures, labels, size):
    total, right = 0.0, 0
    for x, y in zip(pictures.split(size), labels.split(size)):
        s = model((x / 255 - 0.5) / 0.25); loss = nn.functional.cross_entropy(s, y)
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        total += float(loss); right += (s.argmax(1) == y).sum()
    return total / len(labels.split(size)), right.item() / len(labels)
""",
        ),
    ],
    "alternating_flip": [
        (
            "neither",
            """
def alternating_flip(batch, rows, first, epoch):
    flip = first[rows] ^ (epoch % 2 == 1)
    return torch.where(flip[:, None, None, None], batch.roll(1, 3), batch)
""",
        ),
        (
            "raises",
            """
def alternating_flip(batch, rows, first, epoch):
    flip = first[rows] ^ (epoch % 2 == 1)
    return torch.where(flip, batch.flip(3), batch)
""",
        ),
        (
            "turns",
            """
def alternating_flip(batch, rows, first, epoch):
    flip = torch.rand(len(batch)) < 0.5
    return torch.where(flip[:, None, None, None], batch.flip(3), batch)
""",
        ),
    ],
    "static_batch": [
        (
            "other",
            '''
def static_batch(step, batches, graph):
    """Capture one training step, replay it for every batch; return the loss of each."""
    x, y = (part.clone() for part in batches[0])  # the graph's own memory
    with graph.capture():
        loss = step(x, y)
    losses = []
    for new_x, new_y in batches:
        x.copy_(new_x)
        y.copy_(new_y)
        graph.replay()
        losses.append(loss / len(x))
    return losses
''',
        ),
        (
            "raises",
            '''
def static_batch(step, batches, graph):
    """Capture one training step, replay it for every batch; return the loss of each."""
    x, y = (part.clone() for part in batches[0])  # the graph's own memory
    with graph.capture():
        loss = step(x, y).item()
    losses = []
    for new_x, new_y in batches:
        x.copy_(new_x)
        y.copy_(new_y)
        graph.replay()
        losses.append(loss.clone())
    return losses
''',
        ),
    ],
    "triangle_rates": [
        (
            "raises",
            '''
def triangle_rates(pictures, batch, epochs, top, peak):
    """Return the learning rate of every step, a list."""
    steps = epochs * math.ceil(pictures / batch)
    up = [0.2 + 0.8 * step / (peak * steps) for step in range(steps)]
    down = [(steps - step) / ((1 - peak) * steps) for step in range(steps)]
    return [top(min(pair)) for pair in zip(up, down, strict=True)]
''',
        ),
        (
            "other",
            """
def triangle_rates(pictures, batch, epochs, top, peak):
    n = -(-pictures // batch) * epochs
    return [top * 0.5 * (1 + math.cos(math.pi * i / n)) for i in range(n)]
""",
        ),
    ],
    "whiten_patches": [
        (
            "raises",
            '''
def whiten_patches(pictures, size):
    """Return filters (3 * size**2, 3, size, size) whose outputs are uncorrelated, of variance 1."""
    patches = nn.functional.unfold(pictures, size).transpose(1, 2).flatten(0, 1)
    variances, directions = torch.linalg.eigh(patches.cov(0))
    return (directions / (variances + 5e-4).sqrt()).T.reshape(-1, 3, size, size)
''',
        ),
    ],
    "fewest_operations": [
        (
            "raises",
            """
def fewest_operations(pictures, labels):
    return nn.Linear(10, 10)
""",
        ),
    ],
}
