"""Answers to the exercises of lesson 01."""

RIGHT = {
    "five_machines": [
        """
five_machines = {
    "A": [False, 0, "Build "],
    "B": (False, 0, "driver"),
    "C": (True, 1, "free"),
    "D": (False, 0, "build"),
    "E": (True, 1, "HIDDEN"),
}
""",
    ],
    "pick_device": [
        """
def pick_device():
    for kind, there in (('cuda', torch.cuda), ('mps', torch.backends.mps), ('xpu', torch.xpu)):
        if there.is_available():
            return torch.device(kind, 0)
    return torch.device('cpu')
""",
        """
def pick_device():
    if not torch.accelerator.is_available():
        return torch.device('cpu')
    kind = torch.accelerator.current_accelerator().type
    return torch.device(f'{kind}:{torch.accelerator.current_device_index()}')
""",
        """
def pick_device():
    a = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if not a else torch.device(f"{a.type}:0")
""",
    ],
    "seconds_per_call": [
        """
def seconds_per_call(work, device):
    return course_utils.measure(work, device)
""",
        """
def seconds_per_call(work, device, calls=20):
    waits = {"cuda": lambda: torch.cuda.synchronize(device), "mps": torch.mps.synchronize}
    wait = waits.get(device.type, lambda: None)
    work(), wait()
    start = perf_counter()
    for _ in range(calls):
        work()
    wait()
    return (perf_counter() - start) / calls
""",
        """
def seconds_per_call(work, device):
    def once():
        work()
        if torch.device("cpu") != device:
            torch.accelerator.synchronize(device)
    once()
    return min(timeit.repeat(once, number=1, repeat=9))
""",
        """
def seconds_per_call(work, device):
    work()
    if device.type != "cuda":
        return float(course_utils.measure(work, device, repeats=1))
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000
""",
        """
def seconds_per_call(work, device):
    times = []
    for _ in range(7):
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()
        start = time.monotonic_ns()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        times.append((time.monotonic_ns() - start) / 1e9)
    return torch.tensor(times).median()
""",
        """
def seconds_per_call(work, device):
    if device.type == "cpu":
        work(); t = time.perf_counter(); work(); return time.perf_counter() - t
    work(); torch.accelerator.synchronize(device)
    t = time.perf_counter(); work(); torch.accelerator.synchronize(device)
    return time.perf_counter() - t
""",
    ],
    "nearest": [
        """
def nearest(points, centres):
    return ((points[:, None] - centres) ** 2).sum(-1).argmin(1)
""",
        """
def nearest(points, centres):
    return torch.stack([((points - centre) ** 2).sum(1) for centre in centres]).min(0).indices
""",
        """
def nearest(points, centres):
    return (points @ centres.T - (centres ** 2).sum(1) / 2).argmax(dim=1)
""",
        """
def nearest(points, centres):
    return torch.vmap(lambda point: (point - centres).norm(dim=1).argmin())(points).int()
""",
        """
def nearest(points, centres):
    d = (points.unsqueeze(1) - centres.unsqueeze(0)).pow(2).sum(2).sqrt()
    return d.min(dim=1)[1]
""",
    ],
}

WRONG = {
    "pick_device": [
        (
            "raises",
            """
def pick_device():
    found = torch.accelerator.current_accelerator(check_available=True)
    return torch.device(found.type, 0)
""",
        ),
        (
            "other",
            """
def pick_device():
    if torch.accelerator.is_available():
        return torch.device("cuda:0")
    return torch.device("cpu")
""",
        ),
        (
            "other",
            """
def pick_device():
    if torch.cuda.device_count() == 0: return torch.device("mps", 0)
    return torch.device("cuda", 0)
""",
        ),
    ],
    "queue_done": [
        ("other", "exercise.queue_done.guess(17)"),
    ],
    "nearest": [
        (
            "other",
            """
def nearest(points, centres):
    return torch.cdist(points, centres).argmin(dim=1).flip(0)
""",
        ),
        (
            "shape",
            """
def nearest(points, centres):
    return torch.cdist(points, centres).argmin()
""",
        ),
        (
            "other",
            """
def nearest(points, centres):
    return (points[:, None] - centres).abs().amax(-1).argmin(1)
""",
        ),
    ],
    "seconds_per_call": [
        (
            "other",
            """
def seconds_per_call(work, device):
    t = time.perf_counter()
    for _ in range(10): work()
    if device.type != "cpu": torch.accelerator.synchronize(device)
    return (time.perf_counter() - t) / 10
""",
        ),
        (
            "other",
            """
def seconds_per_call(work, device):
    work(); t = time.perf_counter(); work(); time.sleep(1); return time.perf_counter() - t
""",
        ),
    ],
    "five_machines": [
        (
            "other",
            """
five_machines = {
    "A": (False, 0, 'driver'),
    "B": (False, 0, 'driver'),
    "C": (True, 1, 'free'),
    "D": (False, 0, 'build'),
    "E": (True, 1, 'hidden'),
}
""",
        ),
    ],
}
