"""Answers to the exercises of lesson 06."""

RIGHT = {
    "ValidationLog": [
        """
class ValidationLog:
    def __init__(self):
        self.losses, self.failed, self.last = [], [], None

    def batch(self, model, x, y):
        try:
            scores = model(x)
            loss = F.cross_entropy(scores, y)
            self.losses.append(loss.item())
            self.last = scores.detach().cpu()
        except ValueError as error:
            self.failed.append(str(error))

    def mean(self):
        return sum(self.losses) / len(self.losses)
""",
        """
class ValidationLog:
    def __init__(self):
        self.losses, self.failed, self.last = [], [], None

    def batch(self, model, x, y):
        try:
            scores = model(x)
            loss = F.cross_entropy(scores, y)
            self.losses.append(loss.detach())
            self.last = scores.detach()
        except ValueError as error:
            self.failed.append(str(error))

    def mean(self):
        return torch.stack(self.losses).mean()
""",
        """
class ValidationLog:
    def __init__(self):
        self.losses, self.failed, self.last = [], [], None

    def batch(self, model, x, y):
        try:
            with torch.no_grad(): scores = model(x)
            loss = F.cross_entropy(scores, y)
            self.losses.append(float(loss))
            self.last = scores.clone()
        except ValueError as error:
            self.failed.append(error.args[0])

    def mean(self):
        return sum(self.losses) / len(self.losses)
""",
        """
class ValidationLog:
    def __init__(self):
        self.losses, self.failed, self.last = [], [], None

    def batch(self, model, x, y):
        try:
            scores = model(x)
            loss = F.cross_entropy(scores, y)
            self.losses.append(loss.item())
            self.last = scores.data.cpu()
        except ValueError as error:
            self.failed.append(error.with_traceback(None))

    def mean(self):
        return sum(self.losses) / len(self.losses)
""",
        """
class ValidationLog:
    def __init__(self):
        self.total, self.count, self.failed = 0.0, 0, []

    @torch.no_grad()
    def batch(self, model, x, y):
        try:
            scores = model(x)
            loss = F.cross_entropy(scores, y)
        except ValueError as error:
            self.failed.append(f"{type(error).__name__}: {error}")
        else:
            self.last = scores
            self.total += loss
            self.count += 1

    def mean(self):
        return (self.total / self.count).item()
""",
        """
class ValidationLog:
    def __init__(self):
        self.losses, self.failed, self.last = [], [], None
    @torch.inference_mode()
    def batch(self, model, x, y):
        scores = model(x)
        if len(scores) != len(y):
            self.failed.append(f"batch_size {len(scores)} != {len(y)}")
            return
        self.losses.append(F.cross_entropy(scores, y).item())
        self.last = scores
    def mean(self):
        return sum(self.losses) / len(self.losses)
""",
    ],
    "accumulate": [
        """
def accumulate(model, optimizer, x, y, size):
    valid = (y != -100).sum()
    optimizer.zero_grad()
    for a, b in zip(x.split(size), y.split(size)):
        loss = F.cross_entropy(model(a), b, reduction="sum") / valid
        loss.backward()
    optimizer.step()
""",
        """
def accumulate(model, optimizer, x, y, size):
    valid = (y != -100).sum()
    optimizer.zero_grad()
    for a, b in zip(x.split(size), y.split(size)):
        loss = F.cross_entropy(model(a), b) * (b != -100).sum() / valid
        loss.backward()
    optimizer.step()
""",
        """
def accumulate(model, optimizer, x, y, size):
    valid = (y != -100).sum()
    model.zero_grad()
    for a, b in zip(x.split(size), y.split(size)):
        loss = F.cross_entropy(model(a), b, reduction="sum") / valid
        loss.backward()
    optimizer.step(); optimizer.zero_grad()
""",
        """
def accumulate(model, optimizer, x, y, size):
    valid = (y != -100).sum()
    optimizer.zero_grad(); x, y = x[y != -100], y[y != -100]
    for a, b in zip(x.split(size), y.split(size)):
        loss = F.cross_entropy(model(a), b, reduction="sum") / valid
        loss.backward()
    optimizer.step()
""",
        """
def accumulate(model, optimizer, x, y, size):
    valid = (y != -100).sum()
    optimizer.zero_grad()
    for a, b in ((a, b) for a, b in zip(x.split(size), y.split(size)) if (b != -100).any()):
        loss = F.cross_entropy(model(a), b, reduction="sum") / valid
        loss.backward()
    optimizer.step()
""",
        """
def accumulate(model, optimizer, x, y, size):
    valid = (y != -100).sum()
    optimizer.zero_grad()
    for a, b in ((start, 0) for start in range(0, len(x), size)):
        loss = F.cross_entropy(model(x[a:a + size]), y[a:a + size], reduction='none').sum() / valid
        loss.backward()
    optimizer.step()
""",
        """
def accumulate(model, optimizer, x, y, size):
    valid = (y != -100).sum()
    optimizer.zero_grad()
    for a, b in zip(x.split(size), y.split(size)):
        loss = F.cross_entropy(model(a), b, reduction='sum')
        loss.backward()
    [p.grad.div_(valid) for p in model.parameters()]; optimizer.step()
""",
        """
def accumulate(model, optimizer, x, y, size):
    valid = (y != -100).sum()
    optimizer.zero_grad()
    for a, b in torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), size):
        loss = F.nll_loss(model(a).log_softmax(1), b, reduction='sum') / valid
        loss.backward()
    optimizer.step()
""",
        """
def accumulate(model, optimizer, x, y, size):
    model.zero_grad(set_to_none=True)
    n = y.ne(-100).sum().item()
    for i in range(0, len(y), size):
        (F.cross_entropy(model(x[i:i+size]), y[i:i+size], reduction="sum") / n).backward()
    optimizer.step()
""",
    ],
    "careful_step": [
        """
def careful_step(model, optimizer, x, y, size):
    while True:
        optimizer.zero_grad()
        try:
            for a, b in zip(x.split(size), y.split(size)):
                loss = F.cross_entropy(model(a), b, reduction="sum") / len(x)
                loss.backward()
                pass
            optimizer.step()
            return size
        except torch.OutOfMemoryError as error:
            if size == 1: raise
        size //= 2
""",
        """
def careful_step(model, optimizer, x, y, size):
    while True:
        optimizer.zero_grad()
        try:
            for a, b in zip(x.split(size), y.split(size)):
                loss = F.cross_entropy(model(a), b, reduction="sum") / len(x)
                loss.backward()
                pass
            optimizer.step()
            return size
        except torch.OutOfMemoryError as error:
            failed = True
        if size == 1: raise torch.OutOfMemoryError('no')
        size //= 2
""",
        """
def careful_step(model, optimizer, x, y, size):
    while True:
        optimizer.zero_grad()
        try:
            for a, b in zip(x.split(size), y.split(size)):
                loss = F.cross_entropy(model(a), b, reduction="sum") / len(x)
                loss.backward()
                pass
            optimizer.step()
            return size
        except RuntimeError as error:
            if size == 1 or not isinstance(error, torch.cuda.OutOfMemoryError): raise
        size //= 2
""",
        """
def careful_step(model, optimizer, x, y, size):
    fits = False
    while not fits:
        model.zero_grad()
        try:
            for start in range(0, len(x), size):
                part = slice(start, start + size)
                (F.cross_entropy(model(x[part]), y[part]) * len(x[part]) / len(x)).backward()
            fits = True
        except torch.OutOfMemoryError as error:
            message = str(error)
        if not fits:
            gc.collect()
            torch.cuda.empty_cache()
            if size == 1:
                raise torch.OutOfMemoryError(message)
            size = size // 2
    optimizer.step()
    optimizer.zero_grad()
    return size
""",
        """
def careful_step(model, optimizer, x, y, size):
    while True:
        optimizer.zero_grad()
        try:
            for a, b in zip(x.split(size), y.split(size)):
                (F.cross_entropy(model(a), b) * len(b) / len(y)).backward()
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        else:
            optimizer.step()
            return size
        size //= 2
""",
    ],
    "smallest_step": [
        """
def smallest_step(model, optimizer, x, y):
    optimizer.zero_grad()
    optimizer.param_groups[0]["foreach"] = False
    for a, b in zip(x.split(16), y.split(16)):
        (F.cross_entropy(model(a), b, reduction="sum") / len(x)).backward()
    optimizer.step()
""",
        """
def smallest_step(model, optimizer, x, y):
    def now(p):
        optimizer.step()
        p.grad = None
    hooks = [p.register_post_accumulate_grad_hook(now) for p in model.parameters()]
    F.cross_entropy(model(x), y).backward()
    for hook in hooks:
        hook.remove()
""",
        """
def smallest_step(model, optimizer, x, y):
    optimizer.zero_grad(); h = x
    for block in model: h = checkpoint(block, h, use_reentrant=False)
    F.cross_entropy(h, y).backward(); optimizer.step(); optimizer.zero_grad()
""",
        """
def smallest_step(model, optimizer, x, y):
    grads = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    for p, g in zip(model.parameters(), grads): p.grad = g
    optimizer.step(); optimizer.zero_grad()
""",
        """
def smallest_step(model, optimizer, x, y):
    optimizer.zero_grad()
    for a, b in zip(x.split(32), y.split(32)):
        (F.cross_entropy(model(a), b, reduction="sum") / len(y)).backward()
    optimizer.step()
    optimizer.zero_grad()
""",
    ],
}

WRONG = {
    "first_step": [
        ("other", "exercise.first_step.guess(6)"),
    ],
    "ValidationLog": [
        (
            "raises",
            """
class ValidationLog:
    def __init__(self):
        self.losses, self.failed, self.last = [], [], None

    def batch(self, model, x, y):
        try:
            scores = model(x)
            loss = F.cross_entropy(scores, y)
            self.losses.append(loss.numpy())
            self.last = scores.detach().cpu()
        except ValueError as error:
            self.failed.append(str(error))

    def mean(self):
        return sum(self.losses) / len(self.losses)
""",
        ),
        (
            "last",
            """
class ValidationLog:
    def __init__(self):
        self.losses, self.failed, self.last = [], [], None
    def batch(self, model, x, y):
        try:
            scores = model(x)
            self.losses.append(F.cross_entropy(scores, y).item())
            self.last = scores
        except ValueError as error:
            self.failed.append(str(error))
    def mean(self):
        return sum(self.losses) / len(self.losses)
""",
        ),
    ],
    "accumulate": [
        (
            "other",
            """
def accumulate(model, optimizer, x, y, size):
    optimizer.zero_grad()
    for a, b in zip(x.split(size), y.split(size)):
        (F.cross_entropy(model(a), b) / len(y)).backward()
    optimizer.step()
""",
        ),
        (
            "steps",
            """
def accumulate(model, optimizer, x, y, size):
    optimizer.zero_grad()
    for a, b in zip(x.split(size), y.split(size)):
        F.cross_entropy(model(a), b).backward()
        optimizer.step(); optimizer.zero_grad()
""",
        ),
    ],
    "careful_step": [
        (
            "silent",
            """
def careful_step(model, optimizer, x, y, size):
    while size:
        optimizer.zero_grad()
        try:
            for a, b in zip(x.split(size), y.split(size)):
                (F.cross_entropy(model(a), b) * len(b) / len(y)).backward()
            optimizer.step()
            return size
        except torch.OutOfMemoryError:
            size //= 2
""",
        ),
    ],
}
