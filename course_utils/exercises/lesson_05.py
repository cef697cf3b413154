"""The exercises of lesson 05: who gets which rows, checkpoints of wrapped models, gradients put together."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from operator import index
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from . import progress
from .engine import Score, exercise, myth, wrong
from .judging.placement import some_gpus
from .judging.traffic import Traffic

summary = partial(progress.summary, "05")

Reduce = Callable[[list[torch.Tensor]], Any]


def _choice(guess: Any, choices: Sequence[str]) -> str:
    """Return the choice that a guess names; capitals and spaces do not matter."""
    for choice in choices:
        if isinstance(guess, str) and _letters(guess) == _letters(choice):
            return choice
    wrong("word", "Choose one of " + ", ".join(map(repr, choices)) + ".")


def _letters(text: str) -> str:
    return "".join(text.lower().split())


# ---- section 1: who gets which rows --------------------------------------------------------------------
def _chunks(batch: int, gpus: int) -> list[int]:
    """Return how `DataParallel` splits a batch of at least one row."""
    return [len(part) for part in torch.arange(batch).chunk(gpus)]


def _even(batch: int, gpus: int) -> list[int]:
    """Return an even split, as `torch.tensor_split` makes it."""
    return [batch // gpus + (gpu < batch % gpus) for gpu in range(gpus)]


def _compare_split(guess: Any, actual: Sequence[int]) -> None:
    """Compare a guessed split with the one that came out; GPUs without rows may be left out or be 0."""
    rows, total = list(actual), sum(actual)
    if not isinstance(guess, list | tuple) or not all(type(size) is int and size >= 0 for size in guess):
        wrong("form", "Write a list of whole numbers, one for each GPU, such as [10, 10, 10].")
    guess = list(guess)
    while guess and not guess[-1]:
        guess.pop()
    if guess == rows:
        return
    if sum(guess) != total:
        wrong(
            "sum", f"Your parts make {sum(guess)} rows. The batch has {total}, and each row goes somewhere."
        )
    if len(guess) >= len(rows) and guess == _even(total, len(guess)):
        wrong("even", f"That would be an even split. What came out is {rows}: full parts first.")
    if sorted(guess) == sorted(rows):
        wrong("order", f"The right numbers. They come in this order: {rows}.")
    if len(guess) < len(rows):
        wrong("too_few", f"You give rows to {len(guess)} of the GPUs, but {len(rows)} get some: {rows}. "
              "The size of a part follows from the batch and the number of GPUs.")  # fmt: skip
    wrong("other", f"What came out is {rows}. What do all parts but the last have in common?")


def _splits(batch: int) -> list[list[int]]:
    """Return the right split for this machine's GPUs and up to four others: what one might think of."""
    gpus = max(torch.cuda.device_count(), 1)
    right = _chunks(batch, gpus)
    usual = [right, _even(batch, gpus), right[::-1], [batch] * gpus, [batch]]
    few_gpus = [_chunks(batch, 2), _chunks(batch, 3)]  # with so few, the usual ones are much the same
    different = dict.fromkeys(map(tuple, usual + few_gpus))
    return sorted(map(list, list(different)[:5]))


_SPLIT_HINTS = (
    "Do not think of what would be fair. Think of one fixed size for every part.",
    "The size of a part is the number of rows divided by the number of GPUs, rounded up.",
)


@exercise(
    kind="predict",
    minutes=2,
    difficulty="easy",
    stub="exercise.first_split.guess(...)",
    solution="exercise.first_split.guess([4, 4, 4, 4, 4, 4, 4, 2])",
    reasoning="For eight GPUs: 30 / 8 is 3.75, rounded up 4. Seven parts of 4 rows leave 2 for the last GPU.",
    hints=_SPLIT_HINTS,
    why="The first GPUs get full parts and the last one what is left, which is not the fairest split.",
    choices=partial(_splits, 30),
)
def first_split(guess: Any, actual: list[int]) -> None:
    """How many rows of a batch of 30 does each of your GPUs get?"""
    _compare_split(guess, actual)


@exercise(
    kind="predict",
    minutes=2,
    difficulty="easy",
    stub="exercise.last_batch.guess(...)",
    solution="exercise.last_batch.guess([2, 2, 2, 2, 2])",
    reasoning="For eight GPUs: 10 / 8 rounded up is 2. After five parts of 2 no row is left.",
    hints=_SPLIT_HINTS,
    why="A short batch can leave GPUs without any work, though it has more rows than there are GPUs.",
    choices=partial(_splits, 10),
)
def last_batch(guess: Any, actual: list[int]) -> None:
    """How many rows of the last batch, of 10, does each GPU get?"""
    _compare_split(guess, actual)


even_split = myth(
    "even_split",
    "`DataParallel` splits a batch as evenly as possible.",
    "false",
    "It makes parts of ceil(B / n) rows until none are left; even parts come out only where n divides B.",
    {
        "true": "Look at the batch of 30 again: could eight GPUs not share it more evenly than 4, ..., 4, 2?",
        "outdated": "It was never so. The rule has not changed since there is a DataParallel.",
    },
    __name__,
)


class _TorchCalls(TorchFunctionMode):
    """Notes in a `with` block whether a function of PyTorch was called."""

    used = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.used = True
        return func(*args, **(kwargs or {}))


_SPLIT_STUB = """
def split_by_hand(batch, gpus):
    \"\"\"How many rows of a batch each GPU gets, as a list that ends where the rows end.\"\"\"
    return ...
"""


@exercise(
    kind="write",
    minutes=5,
    difficulty="easy",
    stub=_SPLIT_STUB,
    solution='''
        def split_by_hand(batch, gpus):
            """How many rows of a batch each GPU gets, as a list that ends where the rows end."""
            part = -(-batch // gpus)  # rounded up
            return [min(part, batch - first) for first in range(0, batch, part)]
    ''',
    reasoning="Every part begins where the one before it ended, so `range` with a step of `part` gives the "
    "first rows; it stops by itself when no rows are left. Only the last part can be shorter.",
    hints=(
        "First compute the size of a full part: batch / gpus, rounded up. `//` rounds down.",
        "Which rows begin a part? 0, part, 2 * part, ... as long as that is below `batch`.",
        "From each such row on, there are `part` rows left, or fewer.",
    ),
    why="You can tell without any GPU what a batch size will do to eight of them.",
)
def split_by_hand(answer: Any) -> None:
    """Write the function that says how many rows each GPU gets, by arithmetic alone."""
    pairs = [(batch, gpus) for gpus in range(1, 10) for batch in range(1, 41)]
    for batch, gpus in [(30, 8), (10, 8), (10, 4), *pairs, (10_007, 8), (50_000, 7)]:
        with _TorchCalls() as torch_calls:
            sizes = answer(batch, gpus)
            sizes = sizes if sizes is None else list(sizes)
        if sizes is None:
            wrong("nothing", "Your function returns nothing. Does it end in `return`?")
        _judge_split(sizes, batch, gpus)
        if torch_calls.used:
            wrong(
                "torch", "The result is right, but a function of PyTorch made it. Do it with + - * // alone."
            )


def _judge_split(sizes: list[Any], batch: int, gpus: int) -> None:
    """Say what is wrong with a split of a batch."""
    right, case = _chunks(batch, gpus), f"{batch} rows on {gpus} GPUs"
    full = -(-batch // gpus)
    if not all(hasattr(size, "__index__") for size in sizes):
        wrong("whole", f"{case}: {sizes}. Rows are counted in whole numbers; `/` gives fractions.")
    if sizes == right:
        return
    if any(size < 0 for size in sizes):
        wrong(
            "negative", f"{case}: {sizes}. The rows ran out before the last GPU; its part cannot be negative."
        )
    if [size for size in sizes if size] == right:
        wrong("zeros", f"{case}: {sizes}. There is no part without rows: the list ends where the rows end.")
    if len(sizes) == gpus and [size for size in sizes if size] == [
        size for size in _even(batch, gpus) if size
    ]:
        wrong("even", f"{case}: {sizes} is the even split. The first parts are all full, of the same size.")
    if gpus != 8 and sizes == _chunks(batch, 8):  # its answers for eight GPUs were right
        wrong("eight", f"{case}: {sizes} would be right for 8 GPUs. The number of GPUs is an argument, too.")
    if sizes[:1] == [min(batch, full + 1)]:
        wrong("one_more", f"{case}: {sizes}. Parts of {full} are enough: rounding up is not always one more.")
    if len(sizes) >= gpus and sizes[:-1] == [batch // gpus] * (len(sizes) - 1):
        wrong("floor", f"{case}: {sizes}. Rounded down, the parts are too small, and rows are left over.")
    if sizes and set(sizes) == {full}:
        wrong("rest", f"{case}: {sizes} makes {sum(sizes)} rows. The last part has only what is left.")
    wrong("other", f"{case}: you say {sizes}. The sum should be {batch}, and every part but the last equal.")


# ---- section 2: what happens inside --------------------------------------------------------------------
COMBINED = ("added up", "averaged", "only that of cuda:0 counts")


@exercise(
    kind="predict",
    minutes=1,
    difficulty="easy",
    stub="exercise.how_combined.guess(...)",
    solution='exercise.how_combined.guess("added up")',
    reasoning="Every replica's weight is a broadcast of the one parameter, and what is used several times "
    "gets the sum of the gradients that come back. The loss has divided by the rows of the whole batch.",
    hints=(
        "The loss is one mean over all rows of the batch. Who has already divided by their number?",
        "Broadcast uses one weight three times. What does autograd do with a tensor that is used so?",
    ),
    why="Nothing needs to be averaged: the loss, taken over the whole batch, has done the division.",
    choices=COMBINED,
)
def how_combined(guess: Any, actual: str) -> None:
    """Three replicas send back a gradient each. What becomes of them in model.weight.grad?"""
    guess = _choice(guess, COMBINED)
    if guess == actual:
        return
    if guess == "averaged":
        wrong("averaged", "They are added. DistributedDataParallel averages, for it has a loss per process.")
    wrong(
        "first", "All rows count, also those on other GPUs: broadcast's backward brings their gradients home."
    )


# ---- section 3: what bites people ----------------------------------------------------------------------
def _net(**layers: nn.Module) -> nn.Sequential:
    """Return a network with random numbers, also in its buffers."""
    net = nn.Sequential(OrderedDict(layers))
    for tensor in net.state_dict().values():
        tensor.copy_(torch.randint(1_000, tensor.shape))
    return net


def _plain() -> nn.Sequential:
    return _net(first=nn.Linear(3, 4), norm=nn.BatchNorm1d(4))


def _tricky() -> nn.Sequential:
    return _net(embedding=nn.Linear(3, 4), layer=nn.BatchNorm1d(4), decoder=nn.Linear(4, 2))


def _nested() -> nn.Sequential:
    return _net(inner=nn.ModuleDict({"module": nn.Linear(3, 4)}), last=nn.Linear(4, 2))


def _loads(answer: Any, make: Callable[[], nn.Module], wrapped: bool, backwards: bool = False) -> str:
    """Let `answer` load a state dict; say "yes", "error" or, where tensors are not those saved, "no"."""
    saved_from, model = make(), make()
    wanted = {name: tensor.clone() for name, tensor in saved_from.state_dict().items()}
    saved = nn.DataParallel(saved_from).state_dict() if wrapped else saved_from.state_dict()
    if backwards:
        saved = OrderedDict(reversed(saved.items()))
    try:
        answer(model, saved)
    except (RuntimeError, KeyError):
        return "error"
    same = all(torch.equal(tensor.cpu(), wanted[name]) for name, tensor in model.state_dict().items())
    return "yes" if same else "no"


_LOAD_STUB = """
def load_saved(model, saved):
    \"\"\"Load a state dict into a plain model, whether the model was saved plain or in its wrapper.\"\"\"
    model.load_state_dict(saved)
"""


@exercise(
    kind="repair",
    minutes=8,
    difficulty="medium",
    stub=_LOAD_STUB,
    solution='''
        def load_saved(model, saved):
            """Load a state dict into a plain model, whether the model was saved plain or in its wrapper."""
            model.load_state_dict({name.removeprefix("module."): tensor for name, tensor in saved.items()})
    ''',
    reasoning="`removeprefix` takes the word off the front once, and leaves a name alone that does not begin "
    'with it. `replace` would change "inner.module.weight", too, and `lstrip` takes a set of letters. '
    "`consume_prefix_in_state_dict_if_present` does the same in place.",
    hints=(
        "Compare list(saved) with list(model.state_dict()): what has each name too much?",
        "Make a new dict with corrected names and the same tensors, and load that, strictly.",
        "A string has a method that takes a word off its front if it is there, and only there.",
    ),
    why="A checkpoint should load wherever you need it, and complain where it does not fit.",
)
def load_saved(answer: Any) -> None:
    """Repair the loading of a checkpoint that may have been saved from a `DataParallel`."""
    with torch.random.fork_rng(devices=[]):
        _judge_names(answer)
        for wrapped in (True, False):
            _judge_strict(answer, wrapped)


def _judge_names(answer: Any) -> None:
    """Let `answer` load checkpoints that fit, with and without the prefix."""
    for wrapped in (True, False):
        found = _loads(answer, _plain, wrapped)
        if found == "error" and wrapped:
            wrong("prefix", 'The names still differ, as in "module.first.weight" and "first.weight".')
        if found == "no" and wrapped:
            wrong(
                "nothing",
                "No error, but numbers of the model are not those that were saved: they were left out.",
            )
        if found != "yes":
            wrong("plain", "A state dict saved from the plain model has no prefix, and must still load.")
    for wrapped in (True, False):
        if _loads(answer, _tricky, wrapped) != "yes":
            wrong(
                "letters",
                'Layers named "embedding" or "layer" lose letters: `lstrip` takes letters, not words.',
            )
        if _loads(answer, _tricky, wrapped, backwards=True) != "yes":
            wrong(
                "order",
                "In a file the tensors may come in another order. Only their names say what they are.",
            )
        if any(_loads(answer, _nested, wrapped, backwards) != "yes" for backwards in (False, True)):
            if wrapped:
                wrong("inner", 'A layer may itself be called "module", as in "module.inner.module.weight".')
            wrong("anywhere", 'The name "inner.module.weight" has no prefix: "module." is not at its front.')


def _judge_strict(answer: Any, wrapped: bool) -> None:
    """Let `answer` load a checkpoint that does not fit: that has to be an error."""
    for missing in (True, False):
        fits = nn.DataParallel(_plain()) if wrapped else _plain()
        saved = fits.state_dict()
        if missing:
            del saved[next(iter(saved))]
        else:
            saved["module.last.weight" if wrapped else "last.weight"] = torch.zeros(2)
        try:
            answer(_plain(), saved)
        except Exception:  # whatever the reader's code raises, it is not silent
            continue
        wrong(
            "silent",
            "It loads, but it also takes a checkpoint with too few or too many tensors, and is silent.",
        )


SAMPLES, GPUS, AT_LEAST = 5_000, 8, 49


@exercise(
    kind="write",
    minutes=6,
    difficulty="medium",
    stub="good_batch_size = ...",
    solution="""
        def problems(batch_size):
            batches = {batch_size, 5_000 % batch_size} - {0}  # the full ones, and the last one
            splits = [split_sizes(batch, 8) for batch in batches]
            return [split for split in splits if 1 in split or len(split) < 8]


        good_batch_size = next(size for size in range(49, 5_000) if not problems(size))
    """,
    reasoning="54 rows make seven parts of 7 and one of 5; the last batch has 5,000 - 92 x 54 = 32 rows, "
    "four for each GPU. All from 49 to 53 starve a replica or a GPU, in the full batches or in the last one.",
    hints=(
        "An epoch has two kinds of batches: full ones, and perhaps a shorter one at the end. How long is it?",
        "5_000 % batch_size rows are in the last batch; 0 means that there is none.",
        "Ask of both splits: is a 1 in it, and has it eight parts? Take the first size with no complaint.",
    ),
    why="A batch size has to suit the last batch, too; it need not be a multiple of the number of GPUs.",
)
def good_batch_size(answer: Any) -> None:
    """Find the smallest batch size from 49 on that starves no replica and no GPU, in any batch."""
    try:
        answer = index(answer)  # takes NumPy's whole numbers, too
    except TypeError:
        answer = 0
    if not AT_LEAST <= answer <= SAMPLES:
        wrong("form", f"Write a whole number from {AT_LEAST} to {SAMPLES:,}.")
    _complain(answer, "", "A full batch")
    if SAMPLES % answer:
        _complain(SAMPLES % answer, "last_", "The last batch")
    if any(_feeds_all(size) for size in range(AT_LEAST, answer)):
        wrong("not_smallest", "That one works, but a smaller one does, too. It need not be a multiple of 8.")


def _complain(rows: int, key: str, batch: str) -> None:
    """Say what is wrong with a batch on eight GPUs, if something is."""
    sizes = _chunks(rows, GPUS)
    if 1 in sizes:
        wrong(f"{key}single", f"{batch} has {rows} rows, split as {sizes}: batch norm fails on a single row.")
    if len(sizes) < GPUS:
        wrong(f"{key}idle", f"{batch} has {rows} rows, split as {sizes}: only {len(sizes)} GPUs have work.")


def _feeds_all(batch_size: int) -> bool:
    """Tell whether a batch size starves nobody."""
    splits = [_chunks(rows, GPUS) for rows in (batch_size, SAMPLES % batch_size) if rows]
    return all(1 not in sizes and len(sizes) == GPUS for sizes in splits)


# ---- section 4: memory ---------------------------------------------------------------------------------
bigger_model = myth(
    "bigger_model",
    "With `DataParallel` on four GPUs there is room for a model four times as large.",
    "false",
    "Every GPU needs room for the whole model, and GPU 0 for its gradients and optimizer state as well.",
    {
        "true": "What does `replicate` send to each GPU: a quarter of the model, or all of it?",
        "outdated": "It was never so: DataParallel has always copied the whole model to each GPU.",
    },
    __name__,
)


# ---- section 5: one process per GPU --------------------------------------------------------------------
SHARES = ("both", "only (4, 4)", "only (6, 2)", "neither")


@exercise(
    kind="predict",
    minutes=2,
    difficulty="medium",
    stub="exercise.right_shares.guess(...)",
    solution='exercise.right_shares.guess("only (4, 4)")',
    reasoning="DDP averages the gradients of the two means. That is the gradient of the mean over all rows "
    "only if both means are over equally many rows.",
    hints=(
        "Each process takes the mean over its own rows; DDP takes the mean of the two gradients.",
        "How much does one row count in the shares of 4 and 4? And in those of 6 and 2?",
    ),
    why="A mean of means is the mean only where the parts are equal; DistributedSampler sees to that.",
    choices=SHARES,
)
def right_shares(guess: Any, actual: str) -> None:
    """With which shares of the 8 rows is DDP's gradient the one that a single process computes?"""
    guess = _choice(guess, SHARES)
    if guess == actual:
        return
    if guess == "both":
        wrong(
            "both", "A mean over 2 rows and one over 6 count the same in DDP's average, so their rows do not."
        )
    if guess == "neither":
        wrong("neither", "With equally many rows, the mean of the two means is the mean over all of them.")
    wrong("unequal", "Think again about which mean of means is the mean over all rows.")


same_before_step = myth(
    "same_before_step",
    "With DDP all processes hold the same gradients before any of them calls `optimizer.step()`.",
    "true",
    "DDP averages in `backward`; `optimizer.step()` sends nothing, it makes the same step everywhere.",
    {
        "false": "You may have read that `optimizer.step()` brings the processes together. Look for an "
        "optimizer in the script that has just run.",
        "outdated": "It holds in every version of DDP: the averaging hangs on `backward`.",
    },
    __name__,
)


def _judge_sums(
    answer: Reduce, devices: list[torch.device], shape: tuple[int, ...], seed: int = 0
) -> Traffic:
    """Let `answer` add up whole numbers, one tensor on each device; return what travelled."""
    draw = torch.Generator().manual_seed(seed)
    start = [torch.randint(-(2**20), 2**20, shape, generator=draw).float() for _ in devices]
    tensors = [tensor.to(device) for tensor, device in zip(start, devices, strict=True)]
    with Traffic() as traffic:
        _run(answer, tensors)
    if [tensor.device for tensor in tensors] != devices:
        wrong("moved", "After the call a tensor is on another GPU than before. Each has to stay where it is.")
    ends, total = [tensor.cpu() for tensor in tensors], torch.stack(start).sum(0)
    if any(end.shape != total.shape for end in ends):
        wrong("other", "After the call a tensor has another shape than before.")
    if not all(torch.equal(end, total) for end in ends):
        _diagnose(start, ends, total)
    return traffic


def _run(answer: Reduce, tensors: list[torch.Tensor]) -> None:
    """Call `answer`; where it fails with more than two GPUs, with which it has worked, say with how many."""
    try:
        answer(list(tensors))
    except Exception as error:  # an error of the reader's code
        if len(tensors) == 2:
            raise
        text = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
        wrong("count", f"It works with 2 GPUs, but not with {len(tensors)}. There it raises {text}")


def _diagnose(start: list[torch.Tensor], ends: list[torch.Tensor], total: torch.Tensor) -> None:
    """Say why the tensors do not end as the sum."""

    def end_as(wanted: list[torch.Tensor]) -> bool:
        return all(torch.equal(end, one) for end, one in zip(ends, wanted, strict=True))

    if end_as(start):
        wrong("rebound", "The tensors are as before. A new one, in the list or returned, reaches no model: "
              "write the sum into the tensors that are there.")  # fmt: skip
    as_before = [gpu for gpu, end in enumerate(ends) if torch.equal(end, start[gpu])]
    if end_as([start[gpu] if gpu in as_before else total for gpu in range(len(ends))]):
        places = " and ".join(f"cuda:{gpu}" for gpu in as_before)
        wrong("first", f"With {len(ends)} GPUs: on {places} the tensor is as before, on the others it is "
              "the sum. All of them must change.")  # fmt: skip
    if all(torch.allclose(end, total / len(ends)) for end in ends):
        wrong("mean", "That is the mean. Here it should be the sum; who wants the mean divides afterwards.")
    if end_as([total - own for own in start]):
        wrong("own", "Each GPU has the sum of the others' tensors. Its own is missing.")
    if all(torch.allclose(end, total, rtol=1e-2, atol=2**14) for end in ends):
        wrong(
            "rounded", "Close, but not equal: the numbers were rounded on the way. Send them in full float32."
        )
    if torch.equal(ends[0], total) or end_as([total + start[0]] * len(ends)):
        wrong(
            "twice",
            "Some tensors count twice: one that already held a sum was added again as if it were new.",
        )
    if end_as([ends[0]] * len(ends)):
        wrong("equal", f"With {len(ends)} GPUs, all tensors end equal, as they should, but they are not "
              "the sum of all. Which of them were added?")  # fmt: skip
    places = " and ".join(f"cuda:{gpu}" for gpu, end in enumerate(ends) if not torch.equal(end, total))
    wrong("other", f"With {len(ends)} GPUs, what ends on {places} is not the sum of all.")


_REDUCE_STUB = """
def all_reduce(tensors):
    \"\"\"Let each of the tensors, one on each GPU, become the sum of all of them.\"\"\"
    tensors[0].copy_(...)
"""


@exercise(
    kind="write",
    minutes=8,
    difficulty="medium",
    stub=_REDUCE_STUB,
    solution='''
        def all_reduce(tensors):
            """Let each of the tensors, one on each GPU, become the sum of all of them."""
            total = tensors[0].clone()
            for tensor in tensors[1:]:
                total += tensor.to(total.device)
            for tensor in tensors:
                tensor.copy_(total)
    ''',
    reasoning="The running total is a tensor of its own, so no input changes before all have been read. "
    "`copy_` writes into a tensor where it is, also from another GPU.",
    hints=(
        "Two steps: first compute the sum on one GPU, then write it into every tensor.",
        "Tensors on two GPUs cannot be added: `.to(device)` first. And add to a clone, not to tensors[0].",
        "`tensor = total` names another tensor; `tensor.copy_(total)` fills the one that is there.",
    ),
    why="This is the operation that keeps the copies of a model equal, in every program with several GPUs.",
)
def all_reduce(answer: Any) -> None:
    """Write an all-reduce: afterwards every one of the tensors is the sum of all, on its own GPU."""
    with some_gpus(2, most=4) as devices:
        for count in range(2, len(devices) + 1):
            for shape in ((5,), (3, 4)):
                _judge_sums(answer, devices[:count], shape)


_FAIR_STUB = """
def fair_all_reduce(tensors):
    \"\"\"As all_reduce, for 1-d tensors, with as little as possible through any one GPU.\"\"\"
    tensors[0].copy_(...)
"""


@exercise(
    kind="challenge",
    minutes=15,
    difficulty="hard",
    stub=_FAIR_STUB,
    solution='''
        def fair_all_reduce(tensors):
            """As all_reduce, for 1-d tensors, with as little as possible through any one GPU."""
            parts = [tensor.tensor_split(len(tensors)) for tensor in tensors]  # views
            for gpu, tensor in enumerate(tensors):  # each GPU adds up one part of the numbers ...
                others = [part[gpu] for part in parts if part is not parts[gpu]]
                for other in others:
                    parts[gpu][gpu].add_(other.to(tensor.device))
                for other in others:  # ... and sends the result to the others
                    other.copy_(parts[gpu][gpu])
    ''',
    reasoning="Each GPU is in charge of 1/n of the numbers: it receives that part from n - 1 others and "
    "sends them the sum. Of each other part it sends its own numbers and receives the sum. That makes "
    "2 (n - 1) / n each way. A ring moves as much, but only between neighbours.",
    hints=(
        "In the simple way GPU 0 does all the adding, and everything passes through it. Let all GPUs add.",
        "Cut every tensor into n parts. Whose part 3 should GPU 3 receive, and what does it do with them?",
        "`tensor.tensor_split(n)` gives n views, also where n does not divide the length; who writes into a "
        "view writes into the tensor.",
    ),
    why="With a fair share for all, no GPU carries twice the tensor's size each way, however many there are.",
)
def fair_all_reduce(answer: Any) -> Score:
    """Write an all-reduce in which the busiest GPU sends and receives as little as possible."""
    with some_gpus(2) as devices:
        for count in sorted({2, min(3, len(devices)), len(devices)}):
            _judge_sums(answer, devices[:count], (count * 12,))
            for length in (count * 12 + 1, 101, count - 1):
                _judge_length(answer, devices[:count], length)
        count, length = len(devices), len(devices) * 1_000
        traffic = _judge_sums(answer, devices, (length,), seed=1)
    if torch.device("cpu") in {*traffic.sent, *traffic.received}:
        wrong("host", "Correct, but numbers go through the CPU, which is slow. Let GPUs send to GPUs only.")
    value, least = traffic.busiest / (4 * length), 2 * (count - 1) / count
    if value < least - 1e-9:
        wrong(
            "uncounted",
            "Correct, but the numbers travel by a way that is not counted. Use `.to` and `copy_`.",
        )
    return Score(value, "times the tensor's size through the busiest GPU, each way", least)


def _judge_length(answer: Reduce, devices: list[torch.device], length: int) -> None:
    """Let `answer` work on tensors whose length is no multiple of the number of GPUs."""
    try:
        _judge_sums(answer, devices, (length,))
    except Exception as error:  # an error of the reader's code, or a wrong sum
        case = f"{length} number{'s' * (length > 1)} on {len(devices)} GPUs"
        wrong("remainder", "It works where the length is a multiple of the number of GPUs, but not with "
              f"{case}: {(str(error).splitlines() or [''])[0][:120]}")  # fmt: skip
