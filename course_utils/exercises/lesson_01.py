"""The exercises of lesson 01: which devices there are, how to name them, and how to time them."""

from functools import partial
from random import Random
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from . import progress
from .engine import Score, close, exercise, myth, wrong
from .judging.launches import check_nearest, counted
from .judging.pretend import LAUNCH, Queues, machine

summary = partial(progress.summary, "01")

# ---- 2. What does PyTorch see? ------------------------------------------------------------------------
_MACHINES = {
    "A": (False, 0, "build"),
    "B": (False, 0, "driver"),
    "C": (True, 1, "free"),
    "D": (False, 0, "build"),
    "E": (True, 1, "hidden"),
}


@exercise(
    kind="write",
    minutes=5,
    difficulty="easy",
    stub="""
        five_machines = {  # is_available, device_count, why
            "A": (..., ..., ...),
            "B": (..., ..., ...),
            "C": (..., ..., ...),
            "D": (..., ..., ...),
            "E": (..., ..., ...),
        }
    """,
    solution="""
        five_machines = {  # is_available, device_count, why
            "A": (False, 0, "build"),
            "B": (False, 0, "driver"),
            "C": (True, 1, "free"),
            "D": (False, 0, "build"),
            "E": (True, 1, "hidden"),
        }
    """,
    reasoning="A and D are built without CUDA, so a card and a driver do not help A. B could use a GPU but "
    "has no driver. E sees one GPU of two: its cuda:0 is the one that nvidia-smi calls 1.",
    hints=(
        "Go through each row in this order: was PyTorch built for CUDA? Is there a driver? Is a GPU hidden?",
        "torch.version.cuda is None for a build without CUDA, and then nothing else matters. "
        "nvidia-smi comes with the driver. CUDA_VISIBLE_DEVICES lists numbers of GPUs; it is not a count.",
    ),
    why='"My GPU is not found" has several causes, and each has a repair of its own.',
)
def five_machines(answer: Any) -> None:
    """Say for each of five machines what torch.cuda answers, and why."""
    if not isinstance(answer, dict) or set(answer) != set(_MACHINES):
        wrong("rows", "Keep the five rows, with the letters A to E.")
    for letter, row in answer.items():
        _check_row(letter, row)
    for letter, row in answer.items():
        _check_found(letter, *row[:2])
    for letter, (*_, why) in answer.items():
        _check_why(letter, why.strip().lower())


def _check_row(letter: str, row: Any) -> None:
    """Check that a row can be an answer at all."""
    if not isinstance(row, tuple | list) or len(row) != 3 or any(item in (None, ...) for item in row):
        wrong("gaps", f"Row {letter} still has a gap. It takes three answers.")
    available, count, why = row
    if not isinstance(available, bool) or isinstance(count, bool) or not isinstance(count, int):
        wrong("types", f"Row {letter}: is_available() returns True or False, device_count() a whole number.")
    if not isinstance(why, str) or why.strip().lower() not in {row[2] for row in _MACHINES.values()}:
        wrong("word", f'Row {letter}: give the reason as "build", "driver", "hidden" or "free".')
    if available != (count > 0):
        wrong("contradiction", f"Row {letter}: is_available() is True exactly if device_count() is above 0.")


def _check_found(letter: str, available: bool, count: int) -> None:
    """Name the mistake behind wrong answers of torch.cuda."""
    if (available, count) == _MACHINES[letter][:2]:
        return
    if letter == "A":
        wrong("nvidia_smi", "A: nvidia-smi speaks for the driver. Has this PyTorch any code to call it?")
    if letter == "B":
        wrong("compiled", "B: built for CUDA is not enough. What comes with nvidia-smi, and is missing here?")
    if letter == "D":
        wrong("mac", "D: a Mac's GPU is one for torch.accelerator. torch.cuda asks about CUDA only.")
    if letter == "E" and count == 0:
        wrong("no_second", "E: the 1 is a number in the list of nvidia-smi, and there is such a GPU.")
    if letter == "E" and count == 2:
        wrong(
            "visible",
            "E: there are two GPUs, but this process sees only what the variable lists.",
        )
    wrong("count", f"{letter}: count the GPUs that this process can see.")


def _check_why(letter: str, why: str) -> None:
    """Name the mistake behind a wrong reason."""
    if why == _MACHINES[letter][2]:
        return
    if letter in "AD":
        wrong("why_build", f"{letter}: look at torch.version.cuda. Nothing else matters before that.")
    if letter == "B":
        wrong("why_driver", "B: this PyTorch was built for CUDA, and nothing is hidden. What is missing?")
    wrong("why_hidden", f"{letter}: look at CUDA_VISIBLE_DEVICES. Does every GPU show?")


available_works = myth(
    "available_works",
    "If torch.cuda.is_available() is True, the GPU works.",
    "false",
    "It asks how many GPUs the driver reports; only a computation shows that one works.",
    {
        "true": "Read the function's last line in the output below: what does it ask, and whom?",
        "outdated": "It has never been a test: the function has always asked for a number of GPUs.",
    },
    __name__,
)
toolkit_first = myth(
    "toolkit_first",
    "Before `pip install torch` you must install the CUDA toolkit and cuDNN.",
    "false",
    "PyTorch's packages bring the CUDA libraries and cuDNN along; what you install is the driver.",
    {
        "true": "The list below names what pip fetches together with a PyTorch built for CUDA.",
        "outdated": "It was no truer in the past: PyTorch's packages brought both along in its first year "
        "already. The toolkit was and is for those who compile CUDA code themselves.",
    },
    __name__,
)


# ---- 3. One function for every machine ----------------------------------------------------------------
@exercise(
    kind="repair",
    minutes=5,
    difficulty="medium",
    stub="""
        def pick_device():
            if torch.accelerator.current_accelerator() is None:
                return torch.device("cpu")
            return torch.device("cuda")
    """,
    solution="""
        def pick_device():
            found = torch.accelerator.current_accelerator(check_available=True)
            return torch.device("cpu") if found is None else torch.device(found.type, 0)
    """,
    reasoning="check_available=True asks what is there, not what PyTorch was compiled for. The type comes "
    "from the answer, so a Mac gets mps and Intel gets xpu, and the number makes it one GPU for good.",
    hints=(
        "Go through the rows of section 2's table and say what the function returns in each of them.",
        "Three lines of thought: a build for CUDA without a driver; a Mac, whose accelerator is not cuda; "
        'and the 0 in "cuda:0".',
        "One call of current_accelerator with check_available=True gives a device or None. "
        "A device has a .type, and torch.device(type, number) makes one with a number.",
    ),
    why="A program that starts with such a function runs on every machine, and never on the wrong device.",
)
def pick_device(answer: Any) -> None:
    """Repair the function so that it returns a device that is there, with its number, on every machine."""
    for kind, count, type_, key, hint in (
        (None, 0, "cpu", "no_gpu", "On a PyTorch built for the CPU there is nothing but the CPU."),
        ("cuda", 0, "cpu", "compiled", "Built for CUDA, but without a driver, there is no GPU to use."),
        ("cuda", 1, "cuda", "no_cuda", "On a machine with an NVIDIA GPU it should return that GPU."),
        ("mps", 1, "mps", "mac", "On a Mac with Apple silicon the accelerator is mps, and it is there."),
        ("mps", 0, "cpu", "old_mac", "On a Mac whose GPU PyTorch cannot use it should return the CPU."),
        ("xpu", 1, "xpu", "intel", "NVIDIA and Apple are not all: on a machine with an Intel GPU it errs."),
    ):
        got, failure, asks_only = None, None, _AsksOnly()
        try:
            with machine(kind, count), asks_only:
                got = answer()
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        if asks_only.broken:
            wrong("tensor", "It makes a tensor. Asking is enough, and takes no memory on any device.")
        if failure:
            wrong("raises", f"{hint} Your function raises {failure}")
        _check_device(got, type_, key, hint)


class _AsksOnly(TorchFunctionMode):
    """Notices tensors that are made or tried to be made, also where the error is caught."""

    broken = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.broken |= func is not torch.device
        return func(*args, **(kwargs or {}))


def _check_device(got: Any, type_: str, key: str, hint: str) -> None:
    """Check what an answer returned on a pretended machine."""
    if isinstance(got, str):
        wrong("string", 'It returns text. Return a torch.device, as in torch.device("cpu").')
    if not isinstance(got, torch.device):
        wrong("nothing", f"It should return a torch.device; on one of the machines it returned {got!r}.")
    if got.type != type_:
        wrong(key, f"{hint} Your function says {got}.")
    if type_ != "cpu" and got.index is None:
        wrong("index", f"{str(got)!r} has no number: it would mean whichever GPU is the current one.")
    if type_ != "cpu" and got.index != 0:
        wrong("number", f"It returned {got} on a machine with one GPU. Numbers start at 0.")


# ---- 4. The names of devices --------------------------------------------------------------------------
same_name = myth(
    "same_name",
    '"cuda" and "cuda:0" are the same device.',
    "false",
    '"cuda" means the current device at that moment; "cuda:0" is always the first one.',
    {
        "true": "They lead to the same GPU only as long as nobody changes the current device. "
        "The second line of the output below compares them.",
        "outdated": "It was no truer in the past. What does a device without a number mean?",
    },
    __name__,
)


@exercise(
    kind="predict",
    minutes=1,
    difficulty="easy",
    stub="exercise.who_notices.guess(...)",
    solution='exercise.who_notices.guess("the tensor")',
    reasoning="A torch.device is a name, and names are not checked. A tensor needs memory on that device.",
    hints=(
        "Does it take a GPU to write down the number of a GPU?",
        "One of the two needs memory on the device, the other is only a name.",
    ),
    why="A wrong device shows where it is first used, which can be far from where it was written.",
    choices=("the name", "the tensor", "neither"),
)
def who_notices(guess: Any, actual: str) -> None:
    """A GPU that does not exist: does making the name raise an error, making the tensor, or neither?"""
    said = guess.strip().lower() if isinstance(guess, str) else guess
    if said not in ("the name", "the tensor", "neither"):
        wrong("choice", 'Choose one of "the name", "the tensor" and "neither".')
    if said != actual:
        wrong(
            said.replace(" ", "_"),
            "It was not the name: torch.device only writes down a kind and a number, and asks no GPU."
            if said == "the name"
            else f"It was {actual}. A tensor needs memory, so somebody must ask the device for it.",
        )


# ---- 7. Timing, wrong and right -----------------------------------------------------------------------
@exercise(
    kind="predict",
    minutes=2,
    difficulty="medium",
    stub="exercise.queue_done.guess(...)",
    solution="exercise.queue_done.guess(16)",
    reasoning="The GPU begins after the first launch, at 1, and then works without a pause: 1 + 5 x 3.",
    hints=(
        "When can the GPU begin? And does it ever wait after that?",
        "The first launch ends at 1. From then on the next operation is always in the queue already.",
    ),
    why="While the queue is never empty, the launches cost nothing: the total is the GPU's work alone.",
    choices=(5, 8, 15, 16, 20),
)
def queue_done(guess: Any, actual: float) -> None:
    """Five launches of 1 unit each, and each operation takes the GPU 3: when is the work done?"""
    if isinstance(guess, bool) or not isinstance(guess, int | float):
        wrong("number", "Give a number: the time on the model's clock.")
    if close(guess, 5):
        wrong("returned", "At 5 the last call has returned. The GPU is not done then.")
    if close(guess, 15):
        wrong("first_launch", "15 is the GPU's work alone. It cannot begin before something is in its queue.")
    if close(guess, 20):
        wrong(
            "overlap",
            "20 would be right if the two took turns. While the GPU works, the CPU launches on.",
        )
    if close(guess, 8) or close(guess, 4):
        wrong("parallel", "The operations are done one after the other, in the order of the queue.")
    if not close(guess, actual):
        wrong("other", f"It was {actual:g}: the first launch, and then five times 3 without a pause.")


@exercise(
    kind="write",
    minutes=8,
    difficulty="medium",
    stub='''
        def seconds_per_call(work, device):
            """Return how many seconds one call of `work()` takes on `device`, a GPU or the CPU."""
            # your lines
    ''',
    solution='''
        def seconds_per_call(work, device):
            """Return how many seconds one call of `work()` takes on `device`, a GPU or the CPU."""

            def ready():
                if device.type != "cpu":
                    torch.accelerator.synchronize(device)

            work()  # warm-up
            times = []
            for _ in range(5):
                ready()
                start = time.perf_counter()
                work()
                ready()
                times.append(time.perf_counter() - start)
            return sorted(times)[2]
    ''',
    reasoning="The warm-up takes the slow first call. Waiting before the clock starts keeps earlier work "
    "out, waiting before it stops lets our work finish. The device is named, because there can be several.",
    hints=(
        "Five steps: warm up, wait, read the clock, call and wait, read the clock again.",
        "torch.accelerator.synchronize(device) waits for that device; where there is no GPU it raises an "
        'error, so call it only if device.type is not "cpu".',
        "Before the first reading: work(), then wait. Between the two readings: work(), then wait. "
        "Return the difference, in seconds.",
    ),
    why="Every speed you will ever quote rests on these few lines.",
)
def seconds_per_call(answer: Any) -> None:
    """Write a function that times a call on any device: with a warm-up, and waiting on both sides."""
    _time(answer, "cuda:0")
    _time(answer, "cuda:0", backlog=300)
    _time(answer, "cuda:0", first=3000)
    for gpus in (0, 2):
        _time(answer, "cpu", gpus=gpus, first=3000)
    _time(answer, "cuda:1", backlog=300, first=3000)
    _time(answer, "mps:0", gpus=1)


_CPU = (
    "It raises an error for device cpu, which needs no waiting, beside a GPU or alone. "
    "Ask for device.type: a torch.device never equals text."
)
_MAC = "Right for NVIDIA's GPUs, not for a Mac's, mps:0. Which function waits for a GPU of any kind?"


def _time(answer: Any, name: str, *, gpus: int = 2, backlog: float = 0, first: float = 0) -> None:
    """Try an answer on work of known length; the backlog and the first call are given in multiples of it."""
    device = torch.device(name)
    seconds = Random().uniform(0.001, 0.02)  # not torch's numbers: the lesson goes on with those
    queues = Queues(gpus, backlog * seconds, "cuda" if name == "cpu" else device.type)
    work = queues.work(device.index, seconds, first * seconds)
    try:
        with queues.instead(getattr(answer, "__globals__", {})):
            got = answer(work, device)
    except (RuntimeError, ValueError, AssertionError):
        if name == "mps:0":
            wrong("mac", _MAC)
        if name != "cpu":
            raise
        wrong("cpu", _CPU)
    got = got.item() if isinstance(got, torch.Tensor) and got.numel() == 1 else got
    if isinstance(got, bool) or not isinstance(got, int | float):
        wrong("nothing", f"It should return a number of seconds; it returned {got!r}.")
    if not 0.95 * seconds < got < 1.05 * (seconds + LAUNCH):
        if name == "mps:0":
            wrong("mac", _MAC)
        _tell_apart(got, seconds, queues, plain=not (backlog or first), other=device.index == 1)


def _tell_apart(got: float, seconds: float, queues: Queues, *, plain: bool, other: bool) -> None:
    """Name the mistake behind a wrong time."""
    if not queues.calls:
        wrong("never", "It never calls work().")
    if not queues.readings:
        wrong("clock", "It reads no clock that the check knows. Use time.perf_counter().")
    if other:
        wrong("other_gpu", "Right for cuda:0, not for cuda:1: synchronize() alone waits for the current GPU.")
    if plain and any(close(got, factor * seconds, 0.05) for factor in (1e3, 1e6)):
        wrong("unit", "That is a thousand or a million times too much. The answer is wanted in seconds.")
    if queues.slept:
        wrong("sleep", "Sleeping is no waiting: it takes as long as you say, not as long as the work needs.")
    if got < 0:
        wrong("sign", "It is negative: the clock's second reading is the larger one.")
    if got < seconds:
        wrong("launch", "Far too short: the clock was stopped when the launch was done, not the work.")
    if queues.early:
        wrong("before", "Too long: when the clock started, the GPU was still busy with earlier work.")
    if not plain:
        wrong("warm_up", "Too long: the first call, which also loads code, was counted.")
    wrong("total", f"Too long: {queues.calls} calls were made, and the time is wanted for one.")


# ---- Your turn ----------------------------------------------------------------------------------------
_GIVEN = 200 * (10 * 3 + 2) + 1  # launches of the function as given, for 200 points and 10 centres


@exercise(
    kind="challenge",
    minutes=10,
    difficulty="hard",
    stub='''
        def nearest(points, centres):
            """Return for each point the number of the centre nearest to it."""
            numbers = []
            for point in points:
                distances = torch.stack([((point - centre) ** 2).sum() for centre in centres])
                numbers.append(distances.argmin())
            return torch.stack(numbers)
    ''',
    solution='''
        def nearest(points, centres):
            """Return for each point the number of the centre nearest to it."""
            return torch.cdist(points, centres).argmin(dim=1)
    ''',
    reasoning="torch.cdist computes all distances in one operation, a row for each point; argmin(dim=1) then "
    "finds the place of the least one in every row.",
    hints=(
        "Both loops can go. Which shape should a table of all distances have?",
        "points[:, None] has the shape (n, 1, d). Subtract centres from it, of shape (k, d), and you have "
        "all differences at once.",
        "From the differences to the answer: square, sum over the last dimension, argmin over the centres. "
        "Is there one function for all distances between two sets of points?",
    ),
    why="Few launches of much work each are what keeps a GPU's thousands of cores busy.",
)
def nearest(answer: Any) -> Score:
    """Rewrite the function so that it gives the same result with as few launches as you can."""
    generator = torch.Generator().manual_seed(1)
    for n, k, d in ((60, 7, 3), (7, 60, 3), (20, 20, 2), (30, 1, 4), (1, 5, 2), (40, 6, 1), (200, 10, 3)):
        points, centres = (torch.randn(rows, d, generator=generator) for rows in (n, k))
        before = points.clone(), centres.clone()
        got, launches = counted(answer, points, centres)
        if not (torch.equal(points, before[0]) and torch.equal(centres, before[1])):
            wrong("changed", "It changes the points or the centres that it was given.")
        check_nearest(got, points, centres)
    if launches >= _GIVEN:
        wrong("as_many", f"The result is right, but it takes {launches:,} launches: no fewer than before.")
    return Score(launches, "launches for 200 points and 10 centres", 2)
