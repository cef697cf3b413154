"""The exercises of lesson 07: collectives, shares of the data, gradients sent once, files, many GPUs."""

from functools import partial
from typing import Any

from . import progress
from .engine import Score, exercise, myth, wrong
from .judging.rank_saving import judge_saving
from .judging.rank_steps import judge_accumulation, judge_accuracy
from .judging.sampling import compare_share, judge_sampler
from .judging.scaling import judge_gpus, judge_scaling, judge_tools
from .judging.talking import judge_talk

summary = partial(progress.summary, "07")


def _number(guess: Any, example: str) -> float:
    """Return a guessed number."""
    if isinstance(guess, bool) or not isinstance(guess, int | float):
        wrong("form", f"Give a number, such as {example}.")
    return guess


# ---- section 2: collectives ----------------------------------------------------------------------------
@exercise(
    kind="predict",
    minutes=1,
    difficulty="easy",
    stub="exercise.after_all_reduce.guess(...)",
    solution="exercise.after_all_reduce.guess([30, 30])",
    reasoning="An all-reduce adds up unless told otherwise, and writes the sum into every rank's tensor.",
    hints=(
        "all_reduce returns nothing that you need: it changes the tensor that it is given, on every rank.",
        "The default operation is in its signature: op=ReduceOp.SUM. 10 + 20 is what it makes.",
    ),
    why="The sum, on every rank, in place: that is how gradients come together in each step.",
    choices=([10, 20], [10, 30], [15, 15], [20, 10], [30, 30], [200, 200]),
)
def after_all_reduce(guess: Any, actual: list[float]) -> None:
    """Rank 0 holds 10 and rank 1 holds 20. What do they hold after dist.all_reduce?"""
    came = [float(value) for value in actual]
    if not isinstance(guess, list | tuple) or len(guess) != 2:
        wrong("form", "Write a list of two numbers, that of rank 0 and that of rank 1.")
    said = [_number(value, "[10, 20]") for value in guess]
    if said == came:
        return
    if said == [10, 20]:
        wrong("before", f"That is what they held before. all_reduce changes the tensor it is given: {came}.")
    if said == [15, 15]:
        wrong("mean", f"That is the mean. The default operation is the sum: {came}. DDP divides afterwards.")
    if sorted(said) in ([10, 30], [20, 30]):
        wrong("one", f"All means: on all ranks. What ends on one rank only is dist.reduce. Here: {came}.")
    if said == [20, 10]:
        wrong("swapped", f"They do not swap, they add: {came} on both.")
    wrong("other", f"It came out as {came}: the sum, on every rank.")


only_rank_zero = myth(
    "only_rank_zero",
    "Only rank 0 prints the mean loss, so it is enough that rank 0 calls dist.all_reduce.",
    "false",
    "A collective is a meeting: until every rank of the group has come, those that are there wait.",
    {
        "true": "Where would rank 0 get the other ranks' losses from, if they do not send them?",
        "outdated": "It was never so: in every backend, all ranks of a group must call a collective.",
    },
    __name__,
)


# ---- section 3: who reads what -------------------------------------------------------------------------
@exercise(
    kind="predict",
    minutes=2,
    difficulty="medium",
    stub="exercise.rank_three_gets.guess(...)",
    solution="exercise.rank_three_gets.guess([3, 7, 1])",
    reasoning="10 samples do not divide by 4, so the list is padded to 12 from its own beginning: 0 to 9, "
    "then 0 and 1. Rank 3 takes every fourth number from 3 on: 3, 7, and the last one, which is 1.",
    hints=(
        "Ranks take turns, as when cards are dealt: rank 3 begins with 3. What comes four later?",
        "Every rank gets equally many. 10 is no multiple of 4, so two numbers are added at its end.",
        "The two that are added are the first ones of the list again: 0 and 1.",
    ),
    why="Equal shares keep the ranks in step, and the padding means that some samples count twice.",
    choices=([3, 7], [3, 7, 0], [3, 7, 1], [3, 7, 9], [7, 8, 9]),
)
def rank_three_gets(guess: Any, actual: list[int]) -> None:
    """Of the samples 0 to 9, not shuffled, which does rank 3 of 4 get?"""
    compare_share(guess, [int(number) for number in actual])


without_set_epoch = myth(
    "without_set_epoch",
    "DistributedSampler shuffles, so every epoch has a new order, as with DataLoader(shuffle=True).",
    "false",
    "The order follows from seed + epoch. Without set_epoch the epoch stays 0, and so does the order.",
    {
        "true": "The cell below goes through the sampler twice. Compare the two orders.",
        "outdated": "It was never so: since there is a DistributedSampler, it must be told the epoch.",
    },
    __name__,
)


@exercise(
    kind="write",
    minutes=8,
    difficulty="medium",
    stub='''
        def sampler_by_hand(n, world, rank, epoch, drop_last):
            """The list of sample numbers that DistributedSampler gives this rank in this epoch."""
            return ...
    ''',
    solution='''
        def sampler_by_hand(n, world, rank, epoch, drop_last):
            """The list of sample numbers that DistributedSampler gives this rank in this epoch."""
            generator = torch.Generator().manual_seed(epoch)
            order = torch.randperm(n, generator=generator).tolist()
            each = n // world if drop_last else -(-n // world)
            if not drop_last:
                order = order * world  # more than enough to pad with
            return order[: each * world][rank::world]
    ''',
    reasoning="The same generator on every rank makes the same order, so no rank needs to be told what the "
    "others take. Padding goes on from the beginning of the order, several times if there are few samples.",
    hints=(
        "Four steps: an order that all ranks make alike, its length, padding or cutting to that, every "
        "world-th number from `rank` on.",
        "The order is torch.randperm(n, generator=...) with a generator of its own, whose seed is seed + "
        "epoch; the sampler's seed is 0.",
        "Each rank gets n / world, rounded up, and the order is padded from its own beginning. With "
        "drop_last it is rounded down, and the rest of the order is cut off.",
    ),
    why="No message is needed to share the data: the same seed on all ranks is the agreement.",
)
def sampler_by_hand(answer: Any) -> None:
    """Write what DistributedSampler(range(n), world, rank, drop_last=...) gives after set_epoch(epoch)."""
    judge_sampler(answer)


# ---- section 4: one process or two ---------------------------------------------------------------------
CURVES = ("the same", "higher with DDP", "lower with DDP")


@exercise(
    kind="predict",
    minutes=2,
    difficulty="medium",
    stub="exercise.same_curve.guess(...)",
    solution='exercise.same_curve.guess("the same")',
    reasoning="Each step uses the same samples, and the mean of two means over equally many samples is the "
    "mean over all. So gradients and steps agree, up to the rounding of another order of adding.",
    hints=(
        "Which samples are in the first step of one process? And in that of the two processes together?",
        "DDP averages the two gradients, each a mean over half of the batch. Which mean is that?",
    ),
    why="At the same global batch DDP is the same training: what changes is who computes what.",
    choices=CURVES,
)
def same_curve(guess: Any, actual: str) -> None:
    """One process with a batch of 64, or two with 32 each: how does the loss go, step by step?"""
    said = " ".join(guess.split()).lower() if isinstance(guess, str) else guess
    if said not in map(str.lower, CURVES):
        wrong("word", "Choose one of " + ", ".join(map(repr, CURVES)) + ".")
    if said == actual:
        return
    if said == CURVES[1].lower():
        wrong(
            "higher", f"It came out {actual!r}. No rank learns from its half alone: gradients are averaged."
        )
    if said == CURVES[2].lower():
        wrong("lower", f"It came out {actual!r}. There are not more steps, nor larger ones.")
    wrong("other", f"It came out {actual!r}.")


# ---- section 5: gradients sent once --------------------------------------------------------------------
@exercise(
    kind="write",
    minutes=10,
    difficulty="hard",
    stub='''
        def accumulate_ddp(model, optimizer, parts):
            """One training step of a DDP model on this rank's `parts`, a list of (x, y) of equal size."""
            # your lines
    ''',
    solution='''
        def accumulate_ddp(model, optimizer, parts):
            """One training step of a DDP model on this rank's `parts`, a list of (x, y) of equal size."""
            optimizer.zero_grad()
            with model.no_sync():
                for x, y in parts[:-1]:
                    (F.cross_entropy(model(x), y) / len(parts)).backward()
            x, y = parts[-1]
            (F.cross_entropy(model(x), y) / len(parts)).backward()  # sends the sum of all
            optimizer.step()
    ''',
    reasoning="Within no_sync, gradients are added up on each rank and nothing is sent. The last backward "
    "runs outside of it, and sends what is in .grad by then. The forward decides, so it stands inside, too.",
    hints=(
        "Five things: gradients to zero once, no_sync for all parts but the last, the last one without it, "
        "the right division, one step.",
        "`with model.no_sync():` has to hold the forward as well as the backward: DDP prepares in forward.",
        "Divide each loss by len(parts): DDP averages over ranks, not over the parts of one rank.",
    ),
    why="The gradients go over the wire once per step, however many parts it has.",
)
def accumulate_ddp(answer: Any) -> None:
    """Write a step over several parts that sends the gradients once."""
    judge_accumulation(answer)


# ---- section 6: files and figures ----------------------------------------------------------------------
@exercise(
    kind="repair",
    minutes=10,
    difficulty="hard",
    stub='''
        def save_once(model, file):
            """Save a DDP model's weights so that from now on, on any rank, a plain model can load them."""
            torch.save(model.state_dict(), file)
    ''',
    solution='''
        def save_once(model, file):
            """Save a DDP model's weights so that from now on, on any rank, a plain model can load them."""
            if dist.get_rank() == 0:
                part = file.with_suffix(".part")
                torch.save(model.module.state_dict(), part)
                os.replace(part, file)
            dist.barrier()
    ''',
    reasoning="One rank writes, under another name, so that `file` is always a whole checkpoint: the old one "
    "or the new one. The others wait at the barrier, or they might look for the file before it is there.",
    hints=(
        "Four faults: who writes, under which names the weights stand in the file, what is left of the old "
        "file if the process dies while it writes, and when the other ranks may go on.",
        "Write under another name in the same folder, then os.replace(that, file), which happens in one go.",
        "dist.barrier() after the writing, and on every rank: not inside of `if dist.get_rank() == 0`.",
    ),
    why="A checkpoint that can be half written, or read too early, fails on the day it is needed.",
)
def save_once(answer: Any) -> None:
    """Repair the saving: once, whole or not at all, for a plain model, and before any rank goes on."""
    judge_saving(answer)


@exercise(
    kind="repair",
    minutes=8,
    difficulty="medium",
    stub='''
        def exact_accuracy(model, x, y):
            """The share of right answers among all samples, each rank having asked about its own part."""
            sampler = DistributedSampler(y, shuffle=False)
            mine = torch.tensor(list(sampler))
            accuracy = (model(x[mine]).argmax(1) == y[mine]).float().mean()
            dist.all_reduce(accuracy)
            return (accuracy / dist.get_world_size()).item()
    ''',
    solution='''
        def exact_accuracy(model, x, y):
            """The share of right answers among all samples, each rank having asked about its own part."""
            mine = slice(dist.get_rank(), None, dist.get_world_size())
            right = (model(x[mine]).argmax(1) == y[mine]).sum()
            dist.all_reduce(right)
            return right.item() / len(y)
    ''',
    reasoning="Every world-th sample from `rank` on: nobody pads, each sample belongs to one rank. Shares "
    "may now differ by one, so what is added up are counts, not means; a rank without samples adds 0.",
    hints=(
        "With 7 samples and 3 ranks: how many does the sampler hand out, and which of them twice?",
        "Without padding some ranks have one sample less. What does the mean of their means say then?",
        "x[rank::world] pads nothing. Add up the number of right answers, and divide once, at the end.",
    ),
    why="A test accuracy that depends on the number of GPUs cannot be compared with anything.",
)
def exact_accuracy(answer: Any) -> None:
    """Repair the accuracy, so that it is exact for any number of samples and ranks, on every rank."""
    judge_accuracy(answer)


# ---- section 7: a worker dies --------------------------------------------------------------------------
@exercise(
    kind="predict",
    minutes=2,
    difficulty="easy",
    stub="exercise.epochs_begun.guess(...)",
    solution="exercise.epochs_begun.guess(5)",
    reasoning="The first life begins epochs 1, 2 and 3, and dies in the third. The checkpoint is that of the "
    "second, so the second life begins 3 and 4. Epoch 3 is begun twice: five in all.",
    hints=(
        "Count in two lives. Which epoch is the last one that the first life begins?",
        "The newest checkpoint is from the end of epoch 2. With which epoch does the second life begin?",
    ),
    why="What a fault costs is the work since the last checkpoint, here half an epoch, on all ranks.",
    choices=(3, 4, 5, 6, 7),
)
def epochs_begun(guess: Any, actual: int) -> None:
    """4 epochs are asked for, and rank 1 dies in the third. How many does rank 0 begin, in both lives?"""
    said = _number(guess, "4")
    if said == actual:
        return
    if said == 4:
        wrong("nothing_lost", f"It was {actual}. The epoch in which the process died has to be done again.")
    if said == 7:
        wrong("from_start", f"It was {actual}. The second life does not begin anew: it finds a checkpoint.")
    if said == 6:
        wrong("one_back", f"It was {actual}. Epoch 2 was complete and saved; only the third is done again.")
    if said in (2, 3):
        wrong("one_life", f"That is one of the two lives. In both together it was {actual}.")
    wrong("other", f"It was {actual}: count the epochs that each of the two lives begins.")


# ---- section 10: many GPUs -----------------------------------------------------------------------------
@exercise(
    kind="predict",
    minutes=2,
    difficulty="medium",
    stub="exercise.through_one_gpu.guess(...)",
    solution="exercise.through_one_gpu.guess(1.6)",
    reasoning="4 (n - 1) / n P with P = 0.4 GB: for two GPUs 2 P, for 1000 nearly 4 P.",
    hints=(
        "Put n = 2 and n = 1000 into the formula of the ring, 4 (n - 1) / n P.",
        "(n - 1) / n is a half for n = 2. What is it for n = 1000?",
    ),
    why="In a ring a GPU's load hardly grows with their number: that is why DDP scales and a star cannot.",
    choices=(0.0016, 0.4, 0.8, 1.6, 800),
)
def through_one_gpu(guess: Any, actual: float) -> None:
    """In a ring of 2 GPUs 0.8 GB go through each of them in a step. How many GB in a ring of 1000?"""
    said = _number(guess, "0.8")
    if abs(said - actual) <= 0.05 * actual:
        return
    if 100 <= said <= 1000:
        wrong("star", f"It is {actual:.2f} GB. So much goes through the middle of a star; a ring has none.")
    if said == 0.8:
        wrong("equal", f"It is {actual:.2f} GB: not the same, (n - 1) / n grows from a half to nearly 1.")
    if said == 0.4:
        wrong("parameters", f"It is {actual:.2f} GB. 0.4 GB are the gradients themselves; see the formula.")
    if 0 <= said < 0.1:
        wrong("divided", f"It is {actual:.2f} GB. Each piece is small, but there are 2 (n - 1) of them.")
    wrong("other", f"It is {actual:.2f} GB: 4 (n - 1) / n times the 0.4 GB of gradients.")


@exercise(
    kind="write",
    minutes=5,
    difficulty="easy",
    stub='''
        def scaled_up(samples, batch, gpus, rate):
            """Steps in an epoch and learning rate on `gpus` GPUs; `rate` is for one, with `batch` samples."""
            return ..., ...
    ''',
    solution='''
        def scaled_up(samples, batch, gpus, rate):
            """Steps in an epoch and learning rate on `gpus` GPUs; `rate` is for one, with `batch` samples."""
            return -(-samples // (batch * gpus)), rate * gpus
    ''',
    reasoning="DistributedSampler gives each rank samples / gpus, rounded up, and its loader makes batches "
    "of them, rounded up: together samples / (batch x gpus), rounded up. The batch has grown `gpus`-fold, so "
    "has the learning rate.",
    hints=(
        "How many samples does one step use, on all GPUs together? The last step may have fewer.",
        "Round up: -(-a // b) or math.ceil(a / b). By the linear rule the rate grows as the batch does.",
    ),
    why="Few steps in an epoch are the first limit of many GPUs, long before the network is.",
)
def scaled_up(answer: Any) -> None:
    """Write the function that says what becomes of an epoch's steps and of the learning rate."""
    judge_scaling(answer)


# ---- section 11: sharding ------------------------------------------------------------------------------
@exercise(
    kind="write",
    minutes=6,
    difficulty="medium",
    stub='''
        def gpus_needed(parameters, block, memory):
            """The fewest GPUs for FSDP2, or None; `block` is the number of the largest block's parameters."""
            return ...
    ''',
    solution='''
        def gpus_needed(parameters, block, memory):
            """The fewest GPUs for FSDP2, or None; `block` is the number of the largest block's parameters."""
            room = memory - 8 * block  # the block is whole for a moment: 4 bytes of weights, 4 of gradient
            return -(-16 * parameters // room) if room > 0 else None
    ''',
    reasoning="Sharded are 4 bytes of weight, 4 of gradient and 8 of Adam for each parameter: 16 P / n. The "
    "block that computes is whole on every GPU, however many there are, so its 8 bytes each come off first.",
    hints=(
        "Two things lie on a GPU: its part of 16 bytes per parameter, and a whole block with its gradient.",
        "The block's share does not shrink with the number of GPUs. Take it off `memory` first.",
        "Then n is 16 * parameters / room, rounded up; with no room left, no number is enough.",
    ),
    why="Sharding shrinks what is stored, not what computes: a block must still fit on one GPU.",
)
def gpus_needed(answer: Any) -> None:
    """Write the function that says on how many GPUs a model fits when FSDP2 shards it."""
    judge_gpus(answer)


sharding_is_free = myth(
    "sharding_is_free",
    "FSDP2 needs less memory than DDP and sends no more bytes.",
    "false",
    "It gathers the weights again in forward and in backward: 3 (n - 1) / n P sent, against 2 (n - 1) / n P.",
    {
        "true": "A rank that keeps only its part has to get the rest from somewhere, in each forward.",
        "outdated": "It was never so: gathering the weights is what sharding costs, in every version of it.",
    },
    __name__,
)


# ---- section 12: choosing ------------------------------------------------------------------------------
@exercise(
    kind="write",
    minutes=4,
    difficulty="easy",
    stub="""
        which_tool = {
            "it fits and trains overnight; you have one GPU": ...,
            "it fits; 8 GPUs here, the training should take days, not weeks": ...,
            "it fits; two GPUs, and it must stay in a running notebook for an hour": ...,
            "a layer fits, all weights with Adam do not; 16 GPUs": ...,
            "a single layer is larger than a GPU; 8 GPUs in one machine": ...,
        }
    """,
    solution="""
        which_tool = {
            "it fits and trains overnight; you have one GPU": "one GPU",
            "it fits; 8 GPUs here, the training should take days, not weeks": "DDP",
            "it fits; two GPUs, and it must stay in a running notebook for an hour": "DataParallel",
            "a layer fits, all weights with Adam do not; 16 GPUs": "FSDP",
            "a single layer is larger than a GPU; 8 GPUs in one machine": "model parallel",
        }
    """,
    reasoning="Begin at the top of the figure. What fits on one GPU and is quick enough needs nothing. What "
    "fits and is too slow wants DDP, or DataParallel where there cannot be a second process. Sharding is for "
    "what does not fit but whose layers do; a layer that does not fit must be divided itself.",
    hints=(
        "Go through the figure above with each situation, from the top, and stop at the first answer.",
        "Two questions decide most: does the model fit with its optimizer? Does one layer?",
    ),
    why="The simplest tool that is enough is the right one: each further one costs work and traffic.",
)
def which_tool(answer: Any) -> None:
    """Choose a tool for each: "one GPU", "DataParallel", "DDP", "FSDP" or "model parallel"."""
    judge_tools(answer)


# ---- Your turn -----------------------------------------------------------------------------------------
@exercise(
    kind="challenge",
    minutes=20,
    difficulty="hard",
    stub='''
        def small_talk(state, bucket):
            """A communication hook of DDP: a future of the bucket's gradients, averaged over all ranks."""
            gradients = bucket.buffer() / dist.get_world_size()
            work = dist.all_reduce(gradients, async_op=True)
            return work.get_future().then(lambda done: done.value()[0])
    ''',
    solution='''
        def small_talk(state, bucket):
            """A communication hook of DDP: a future of the bucket's gradients, averaged over all ranks."""
            unsent = bucket.buffer() + state.get(bucket.index(), 0)  # with what was rounded off before
            scale = (unsent.abs().max() / 127).clamp(min=1e-30)
            mine = (unsent / scale).round().to(torch.int8)  # one byte for each gradient, not four
            state[bucket.index()] = unsent - mine * scale

            world = dist.get_world_size()
            scales, every = unsent.new_empty(world), mine.new_empty(world * len(mine))
            dist.all_gather_into_tensor(scales, scale.view(1))
            dist.all_gather_into_tensor(every, mine)
            future = torch.futures.Future()
            future.set_result((every.view(world, -1) * scales[:, None]).mean(0))
            return future
    ''',
    reasoning="Whole numbers from -127 to 127 and one scale for each bucket: a quarter of the bytes. A rank "
    "has another scale, so numbers are gathered, not added. What is rounded off waits in `state` for the "
    "next step. Two lines, .bfloat16() and .float(), make 0.5; less than 0.25 is possible: send only the "
    "largest, or not in every step.",
    hints=(
        "The simplest saving: all-reduce bucket.buffer().bfloat16(), and make float32 of it again in `then`.",
        "More: the largest tenth of the gradients, with topk; only every second step; one byte for each.",
        "What is not sent now has to be sent later: keep it in state[bucket.index()] and add it to the next "
        "bucket.buffer(). Without that the training loses it for good.",
        "Ranks choose different places and scales, so they cannot simply be added up on the way: let "
        "dist.all_gather_into_tensor bring all of them, and add up at the end.",
    ),
    why="Gradients may be sent roughly, as long as what is rounded off is not lost but sent later.",
)
def small_talk(answer: Any) -> Score:
    """Write a communication hook that sends the fewest bytes and still trains as well."""
    return judge_talk(answer)
