"""The memory ledger: bytes counted by hand, what ran, and nothing left behind."""

import gc
import warnings

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import course_utils
from course_utils.figures.style import CATEGORY_COLORS
from course_utils.memory import history
from course_utils.memory.labelling import module_names
from course_utils.memory.labels import Label, read
from course_utils.memory.marks import Mark, Marks

FLOAT = 4  # bytes
# 512 is the allocator's smallest block: the size of a bias, a loss, a counter


@pytest.fixture(autouse=True)
def machine():
    with course_utils.virtual_gpus(8) as machine:
        yield machine


def held(**bytes_) -> dict[str, int]:
    """All categories, those not named with 0 bytes."""
    return dict.fromkeys(CATEGORY_COLORS, 0) | {name.replace("_", " "): n for name, n in bytes_.items()}


def linear(inputs=128, outputs=64) -> nn.Linear:
    return nn.Linear(inputs, outputs).cuda()


@pytest.fixture
def model(machine):
    return linear()


@pytest.fixture
def x(machine):
    return torch.ones(256, 128, device="cuda")


WEIGHT, BIAS, X, OUT, LOSS = 128 * 64 * FLOAT, 512, 256 * 128 * FLOAT, 256 * 64 * FLOAT, 512


def step(model, x, optimizer=None):
    out = model(x)
    loss = out.sum()
    loss.backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad()


# ---- bytes counted by hand ------------------------------------------------------------------------------
def test_forward_and_backward_of_a_linear_layer(model, x):
    with course_utils.track_memory() as ledger:
        step(model, x)
    # the gradient of the loss, a 1, is all that is left over
    peak = held(
        parameters=WEIGHT + BIAS, gradients=WEIGHT + BIAS, activations=OUT + LOSS, inputs=X, other=512
    )
    assert ledger.at_peak() == peak
    assert ledger.peak() == sum(peak.values())
    assert ledger.live() == held(parameters=WEIGHT + BIAS, gradients=WEIGHT + BIAS, inputs=X)
    assert ledger.peak_label() == "backward of Linear: sum"
    assert list(ledger.at_peak()) == list(CATEGORY_COLORS)


def test_the_peak_is_the_allocators(model, x):
    torch.cuda.reset_peak_memory_stats()
    with course_utils.track_memory() as ledger:
        step(model, x, torch.optim.Adam(model.parameters()))
    assert ledger.peak() == torch.cuda.max_memory_allocated()
    assert sum(ledger.live().values()) == torch.cuda.memory_allocated()
    assert ledger.reserved() == torch.cuda.max_memory_reserved() == 2 * 2**20


@pytest.mark.parametrize(
    ("make", "states"),
    [
        (lambda p: torch.optim.SGD(p, 0.1), 0),
        (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), 1),
        (torch.optim.Adam, 2),
        (torch.optim.AdamW, 2),
    ],
)
def test_an_optimizer_keeps_this_many_copies_of_the_parameters(model, x, make, states):
    with course_utils.track_memory() as ledger:
        step(model, x, make(model.parameters()))
        step(model, x, make(model.parameters()))  # the state of the first one is gone
        optimizer = make(model.parameters())
        step(model, x, optimizer)
    whole = WEIGHT + BIAS
    assert ledger.live() == held(parameters=whole, optimizer_state=states * whole, inputs=X)


def test_gradients_from_before_and_those_set_to_zero_stay(model, x):
    step(model, x)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with course_utils.track_memory(model=model) as ledger:
        optimizer.zero_grad(set_to_none=False)
    assert ledger.live() == held(parameters=WEIGHT + BIAS, gradients=WEIGHT + BIAS, other=X)
    with course_utils.track_memory(optimizer=optimizer, x=x) as ledger:
        optimizer.zero_grad()
    assert ledger.at_peak() == held(parameters=WEIGHT + BIAS, gradients=WEIGHT + BIAS, inputs=X)
    assert ledger.live() == held(parameters=WEIGHT + BIAS, inputs=X)
    assert ledger.peak_label() == "before the block"


def test_views_and_changes_in_place_cost_nothing(x):
    with course_utils.track_memory(x=x) as ledger:
        y = x.view(-1)[5:].unsqueeze(0).add_(1).relu_()
        z = y.expand(7, -1)
    assert z.shape == (7, 256 * 128 - 5)
    assert ledger.at_peak() == ledger.live() == held(inputs=X)
    assert len(ledger.timeline().labels) == 1  # nothing but the beginning


def test_checkpointing_keeps_only_what_goes_into_a_block():
    blocks = [nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)).cuda() for _ in range(3)]
    part = 512 * 64 * FLOAT
    for keep, run in ((5, lambda block, x: block(x)), (1, None)):
        x = torch.ones(512, 64, device="cuda")
        with course_utils.track_memory(x=x) as ledger:
            for block in blocks:
                x = checkpoint(block, x, use_reentrant=False) if run is None else run(block, x)
        # of each block its output, and without checkpointing the output of its ReLU, four times as wide
        assert ledger.live()["activations"] == 3 * keep * part
    x.retain_grad()
    with course_utils.track_memory(x=x) as ledger:
        x.sum().backward()
    timeline = ledger.timeline()
    recomputed = timeline.labels.index("recomputing Sequential.1: relu")
    assert timeline.phases[recomputed] == "backward"
    before = timeline.bytes["activations"][timeline.labels.index("recomputing Sequential.0: addmm") - 1]
    assert timeline.bytes["activations"][recomputed] == before + 2 * 4 * part  # of the Linear and of its ReLU
    assert recomputed < timeline.labels.index("backward of Sequential.2: mm")
    assert set(ledger.timeline().phases) <= {"other", "forward", "backward"}


def test_evaluation_keeps_nothing(model, x):
    with course_utils.track_memory() as ledger, torch.no_grad():
        model(x).relu()
    # relu's result is no activation: no module made it, and nobody learns from it
    assert ledger.at_peak() == held(parameters=WEIGHT + BIAS, activations=OUT, inputs=X, other=OUT)
    assert ledger.live() == held(parameters=WEIGHT + BIAS, inputs=X)


def test_inputs_are_what_is_named_comes_from_the_host_or_goes_into_a_module():
    host, model, target = torch.ones(256, 128), linear(), torch.empty(256, 128, device="cuda")
    pictures, scale = torch.ones(256, 128, device="cuda"), torch.full((), 2.0, device="cuda")
    labels = torch.zeros(256, 128, device="cuda")
    with course_utils.track_memory(batch={"labels": [labels]}) as ledger:
        a = host.to("cuda")
        b = torch.tensor(host.tolist(), device="cuda")
        target.copy_(host)
        c = pictures * scale
        model(c)
        d = a + b
    assert ledger.live() == held(parameters=WEIGHT + BIAS, inputs=5 * X, other=X + X + 512)
    del c, d


def test_copies_between_gpus_or_types_are_no_inputs(x):
    with course_utils.track_memory(x=x) as ledger:
        kept = x.to("cuda:1"), x.double(), x.cpu()
    assert ledger.live(0) == held(inputs=X, other=2 * X)
    assert ledger.live(1) == held(other=X)
    del kept


def test_a_parameter_can_be_named_alone():
    weight = nn.Parameter(torch.ones(128, 64, device="cuda"))
    with course_utils.track_memory(weight=weight) as ledger:
        (weight * 2).sum().backward()
    assert ledger.live() == held(parameters=WEIGHT, gradients=WEIGHT)


def test_a_gradient_made_by_hand(model):
    with course_utils.track_memory(model=model) as ledger:
        model.weight.grad = torch.ones_like(model.weight)
    assert ledger.live() == held(parameters=WEIGHT + BIAS, gradients=WEIGHT)


def test_blocks_are_rounded_up_to_512_bytes():
    with course_utils.track_memory() as ledger:
        kept = [torch.zeros(n, device="cuda", dtype=torch.uint8) for n in (0, 1, 512, 513)]
    assert ledger.live() == held(other=512 + 512 + 1024)
    assert [block.size for block in ledger.largest()] == [1024, 512, 512]
    del kept


def test_the_largest_blocks_at_the_peak(model, x):
    with course_utils.track_memory(model=model) as ledger:
        step(model, x)
    first, second, third = ledger.largest(count=3)
    assert (first.size, first.category, first.label) == (X, "inputs", "before the block")
    assert (second.size, second.category, second.label) == (OUT, "activations", "forward of model: addmm")
    assert third.size == WEIGHT
    assert sum(block.size for block in ledger.largest(count=100)) == ledger.peak()
    assert (first.start, first.end) == (0, None)
    assert 0 < second.start < second.end
    assert str(second) == "     0.06 MiB  activations      forward of model: addmm"


def test_naming_keeps_nothing_alive():
    model, x = linear(), torch.ones(256, 128, device="cuda")
    optimizer = torch.optim.Adam(model.parameters())
    with course_utils.track_memory(model=model, optimizer=optimizer, x=x) as ledger:
        step(model, x, optimizer)
        del model, optimizer, x
        gc.collect()
    assert ledger.live() == held()
    assert torch.cuda.memory_allocated() == 0


def test_a_step_that_raised_keeps_nothing_alive():
    model, x = linear(), torch.ones(256, 128, device="cuda")
    optimizer = torch.optim.Adam(model.parameters())
    with course_utils.track_memory() as ledger:
        model(x).sum().backward()
        optimizer.param_groups[0]["lr"] = "much"
        with pytest.raises(TypeError):
            optimizer.step()
        del model, optimizer, x
        gc.collect()
        kept = torch.zeros(5, device="cuda")
    assert ledger.live() == held(other=512)
    del kept


# ---- what ran -------------------------------------------------------------------------------------------
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.features(x * 2).mean((2, 3)))


def test_labels_name_phase_module_and_operation():
    model, x = Net().cuda(), torch.rand(16, 3, 8, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    with course_utils.track_memory(model=model) as ledger:
        loss = F.cross_entropy(model(x.cuda()), torch.zeros(16, dtype=torch.long, device="cuda"))
        loss.backward()
        optimizer.step()
    timeline = ledger.timeline()
    for label in (
        "copy from host",
        "zeros",
        "forward of model: mul",
        "forward of features.0: convolution",
        "forward of head: addmm",
        "forward: nll_loss_forward",
        "backward: nll_loss_backward",
        "backward of head: mm",
        "backward of model: div",  # of the mean
        "backward of features.1: native_batch_norm_backward",
        "backward of features.0: convolution_backward",
        "optimizer step of SGD: clone",
    ):
        assert label in timeline.labels
    assert list(dict.fromkeys(timeline.phases)) == ["other", "forward", "backward", "optimizer step"]
    assert len({len(timeline.labels), len(timeline.phases), len(timeline.reserved), len(timeline.total)}) == 1
    buffers = 2 * 512 + 512  # running mean and variance, number of batches
    assert ledger.live()["parameters"] == 3 * 8 * 9 * FLOAT + 160 + 5 * 512 + buffers


def test_names_of_modules():
    two = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.ReLU()))
    assert list(module_names(two).values()) == [
        "Sequential",
        "Sequential.0",
        "Sequential.1",
        "Sequential.1.0",
    ]
    assert list(module_names(two, "model").values())[-1] == "model.1.0"
    assert list(module_names(Net(), "net").values())[:3] == ["net", "features", "features.0"]
    assert list(module_names(Net(), "net", full=True).values())[:3] == [
        "net",
        "net.features",
        "net.features.0",
    ]
    wrapped = module_names(nn.DataParallel(Net()))
    assert list(wrapped.values())[:4] == ["DataParallel", "Net", "features", "features.0"]


def test_labels_as_text():
    label = Label("forward", "a.b", "mm")
    assert (read(label.text), str(label)) == (label, "forward of a.b: mm")
    assert str(read("what the reader wrote")) == "between operations"
    assert str(Label("backward", "features.3", "mm")) == "backward of features.3: mm"
    assert str(Label("recompute", "a", "mm")) == "recomputing a: mm"
    assert str(Label("other", "", "zeros")) == "zeros"
    assert str(Label()) == "between operations"


def test_a_step_inside_backward_is_a_step(model, x):
    optimizers = {p: torch.optim.SGD([p], 0.1, momentum=0.9) for p in model.parameters()}

    def update(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    with course_utils.track_memory() as ledger:
        step(model, x)
    assert "optimizer step of SGD: clone" in ledger.timeline().labels
    assert ledger.live() == held(parameters=WEIGHT + BIAS, optimizer_state=WEIGHT + BIAS, inputs=X)


def test_the_peak_is_where_it_is_reached_first():
    with course_utils.track_memory() as ledger:
        torch.zeros(5000, device="cuda")
        torch.ones(5000, device="cuda")
    assert ledger.peak_label() == "zeros"
    assert [block.label for block in ledger.largest()] == ["zeros"]


class Backward(nn.Module):
    """Trains its layer inside its forward, as a class around a whole training step does."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(128, 64)

    def forward(self, x):
        self.layer(x).sum().backward()
        return x * 2


def test_a_backward_pass_inside_a_module_is_one():
    model, x = Backward().cuda(), torch.ones(256, 128, device="cuda")
    with course_utils.track_memory() as ledger:
        model(x)
    timeline = ledger.timeline()
    assert "backward of layer: mm" in timeline.labels
    assert timeline.phases[timeline.labels.index("forward of Backward: mul")] == "forward"


def test_data_parallel_on_four_devices():
    model = nn.Sequential(nn.Linear(128, 64), nn.ReLU()).cuda()
    parallel, x = nn.DataParallel(model, [0, 1, 2, 3]), torch.ones(256, 128, device="cuda")
    with course_utils.track_memory(model=parallel, x=x) as ledger:
        out = parallel(x)
        out.sum().backward()
    assert [str(device) for device in ledger.devices] == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    own = held(parameters=WEIGHT + BIAS, gradients=WEIGHT + BIAS, inputs=X, activations=OUT)
    assert ledger.live(0) == own
    for index in (1, 2, 3):
        timeline = ledger.timeline(index)
        at = timeline.labels.index("forward of model.0: addmm")
        sizes = {name: timeline.bytes[name][at] for name in CATEGORY_COLORS}
        assert sizes == held(parameters=WEIGHT + BIAS, inputs=X // 4, activations=OUT // 4)
        assert max(timeline.bytes["gradients"]) == WEIGHT + BIAS
        assert ledger.live(index) == held()
        moved = [label for label in timeline.labels if label.endswith((": cat", ": _to_copy"))]
        # the parameters and inputs on their way here, the gradients on their way back
        assert set(moved) == {
            "forward of model: _to_copy",
            "backward of model: _to_copy",
            "backward of model: cat",
        }
    assert "backward of model.1: threshold_backward" in ledger.timeline(1).labels
    assert ledger.at_peak("cuda:0")["gradients"] >= WEIGHT + BIAS


# ---- ends and beginnings --------------------------------------------------------------------------------
def nothing_is_left() -> bool:
    from torch.nn.modules import module
    from torch.optim import optimizer

    hooks = (
        module._global_forward_pre_hooks,
        module._global_forward_hooks,
        module._global_forward_hooks_always_called,
        optimizer._global_optimizer_pre_hooks,
        optimizer._global_optimizer_post_hooks,
    )
    return (
        not any(hooks)
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._cuda_isHistoryEnabled()
        and not any(torch.cuda.memory._snapshot()["device_traces"])
    )


def test_nothing_is_left_behind():
    model, x = nn.DataParallel(linear(), [0, 1]), torch.ones(256, 128, device="cuda")
    torch.cuda.memory._set_memory_metadata("mine")
    with course_utils.track_memory():
        assert not nothing_is_left()
        step(model, x)
    assert nothing_is_left()
    assert torch.cuda.memory._get_memory_metadata() == "mine"
    assert all(not p._backward_hooks and not p._post_accumulate_grad_hooks for p in model.parameters())
    seen = []
    torch.nn.parallel.parallel_apply([Witness(seen), Witness(seen)], [x, x], devices=[0, 1])
    assert seen == [("", 0)] * 2  # also in DataParallel's threads


def test_a_graph_that_outlives_the_block_keeps_nothing_of_it():
    model, x = nn.DataParallel(linear(), [0, 1]), torch.ones(256, 128, device="cuda")
    with course_utils.track_memory():
        out = model(x)
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is Marks]
    out.sum().backward()


class Witness(nn.Module):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def forward(self, x):
        self.seen.append((torch.cuda.memory._get_memory_metadata(), torch._C._len_torch_dispatch_stack()))


def test_running_out_of_memory_leaves_a_complete_ledger(model, x):
    kept = []

    def block():
        kept.append(model(x))
        torch.empty(3 * 2**30, device="cuda")

    with pytest.raises(torch.OutOfMemoryError), course_utils.track_memory(model=model) as ledger:
        block()
    assert nothing_is_left()
    assert ledger.live() == held(parameters=WEIGHT + BIAS, activations=OUT, inputs=X)


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(128, 64)

    def forward(self, x):
        raise ValueError("no", self.inner(x))


def test_an_error_inside_a_module_does_not_confuse_the_names():
    model, x = Failing().cuda(), torch.ones(256, 128, device="cuda")
    with course_utils.track_memory() as ledger:
        with pytest.raises(ValueError, match="no"):
            model(x)
        zeros = torch.zeros(5, device="cuda")
        linear()(x)
    labels = ledger.timeline().labels
    assert "forward of inner: addmm" in labels
    assert labels.index("zeros") < labels.index("forward of Linear: addmm")
    with pytest.raises(ZeroDivisionError), course_utils.track_memory() as ledger:
        zeros.add_(1 / 0)
    assert nothing_is_left()
    assert ledger.peak() == torch.cuda.memory_allocated() == X + WEIGHT + BIAS + 512


def test_blocks_do_not_nest():
    with course_utils.track_memory() as ledger:
        with pytest.raises(RuntimeError, match="do not nest"), course_utils.track_memory():
            pass
        kept = torch.zeros(5, device="cuda")
    assert ledger.live() == held(other=512)
    del kept


def test_a_history_that_somebody_else_records_goes_on():
    torch.cuda.memory._record_memory_history()
    try:
        with pytest.raises(RuntimeError, match="already being recorded"), course_utils.track_memory():
            pass
        torch.zeros(5, device="cuda")
        assert torch.cuda.memory._snapshot()["device_traces"][0]
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
    with course_utils.track_memory():
        pass


def test_what_cannot_be_named():
    with pytest.raises(TypeError, match="lr is a float; track_memory takes modules, optimizers and tensors"):
        course_utils.track_memory(lr=0.1).__enter__()
    assert nothing_is_left()


def test_questions_while_the_block_runs():
    with course_utils.track_memory() as ledger:
        assert "complete when" in str(ledger)
        with pytest.raises(RuntimeError, match="complete when"):
            ledger.peak()


def test_devices_can_be_named_in_several_ways():
    with course_utils.track_memory() as ledger:
        kept = torch.zeros(5, device="cuda:2"), torch.zeros(500, device="cuda:3")
    assert ledger.peak() == ledger.peak(2) == ledger.peak("cuda:2") == ledger.peak(kept[0].device) == 512
    assert ledger.peak("cuda:3") == 2048
    with pytest.raises(ValueError, match=r"No memory of cuda:0 was in use.*cuda:2, cuda:3"):
        ledger.live("cuda")


def test_a_block_too_long_to_keep(monkeypatch):
    monkeypatch.setattr(course_utils.memory, "MAX_ENTRIES", 10)
    with course_utils.track_memory() as ledger:
        for _ in range(10):
            torch.zeros(5, device="cuda")
    assert "Track fewer steps" in str(ledger)
    assert ledger.devices == []


def test_without_cuda_the_block_runs_and_the_ledger_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with course_utils.track_memory(model=nn.Linear(2, 2)) as ledger:
        result = torch.ones(2).sum()
    assert result == 2
    assert str(ledger).startswith("No CUDA device")
    assert "\n" not in str(ledger)
    assert (ledger.devices, ledger.peak(), ledger.peak_label(), ledger.largest()) == ([], 0, "", [])
    assert ledger.at_peak() == ledger.live() == held()
    assert (ledger.reserved(), ledger.timeline().total) == (0, [])
    assert ledger.timeline().bytes == {name: [] for name in CATEGORY_COLORS}
    for figure in (ledger.draw(), ledger.draw_devices()):
        figure.canvas.draw()
        assert [text.get_text() for text in figure.texts] == [str(ledger)]


def two_steps_on_two_devices():
    model, x = Net().cuda(), torch.rand(64, 3, 32, 32, device="cuda")
    optimizer = torch.optim.Adam(model.parameters())
    with course_utils.track_memory(model=model, pictures=x) as ledger:
        for _ in range(2):
            step(nn.DataParallel(model, [0, 1]), x, optimizer)
    return ledger


def test_two_passes_give_the_same_ledger():
    first, second = two_steps_on_two_devices(), two_steps_on_two_devices()
    assert str(first) == str(second)
    for index in (0, 1):
        one, two = first.timeline(index), second.timeline(index)
        assert (one.bytes, one.labels, one.phases) == (two.bytes, two.labels, two.phases)


# ---- in words and drawn ---------------------------------------------------------------------------------
@pytest.fixture
def ledger():
    return two_steps_on_two_devices()


def test_the_table(ledger):
    first = str(ledger).split("\n\n")[0].splitlines()
    assert first[0].split() == ["cuda:0,", "MiB", "at", "the", "peak", "at", "the", "end"]
    rows = {line[:18].strip(): [float(number) for number in line[18:].split()] for line in first[1:-2]}
    assert rows["total"] == [round(ledger.peak() / 2**20, 2), round(sum(ledger.live().values()) / 2**20, 2)]
    assert rows["inputs"] == [0.75, 0.75]
    assert sum(block.size for block in ledger.largest(count=10**6)) == ledger.peak()
    assert first[-2] == f"  peak during: {ledger.peak_label()}"
    assert first[-1] == f"  reserved: up to {ledger.reserved() / 2**20:.2f} MiB"
    assert repr(ledger) == str(ledger)


def test_the_drawing_has_names_and_units(ledger):
    before = dict(plt.rcParams)
    figure = ledger.draw()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    assert dict(plt.rcParams) == before
    assert not plt.get_fignums()
    band, axes = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("allocations and frees, in order", "MiB")
    assert figure.get_suptitle() == "cuda:0 (Virtual GPU): memory over the block"
    names = [text.get_text().split(":")[0] for text in figure.legends[0].get_texts()]
    assert names == ["reserved", *reversed(CATEGORY_COLORS)]
    words = [text.get_text() for text in axes.texts]
    assert len(words) == 1
    assert words[0].splitlines()[1] == ledger.peak_label()
    assert {"backward", "forward"} & {text.get_text() for text in band.texts}
    assert str(figure) == str(ledger)  # for those who cannot see it
    (total,) = (patch for patch in axes.patches if patch.get_gid() == "total")
    assert max(total.get_data().values) == pytest.approx(ledger.peak() / 2**20)


def test_a_long_name_is_cut_where_it_does_not_fit(x):
    parts = nn.ModuleDict({"a_name_longer_than_any_figure_is_wide_" * 3: linear()})
    model = nn.ModuleDict({"inner": parts})
    with course_utils.track_memory(model=model, x=x) as ledger:
        next(iter(parts.values()))(x)
    figure = ledger.draw()
    figure.canvas.draw()
    axes = figure.axes[1]
    text = axes.texts[0].get_text().splitlines()[1]
    assert text.startswith("…")
    assert text.endswith("wide_: addmm")
    words, room = axes.texts[0].get_window_extent(), axes.get_window_extent()
    legend = figure.legends[0].get_window_extent()
    assert room.x0 <= words.x0 < words.x1 <= room.x1 < legend.x0
    assert figure.legends[0].get_texts()[0].get_text() == "reserved: up to 2.0, off scale"


def test_the_bars_have_names_and_units(ledger):
    for what, sizes in (("peak", ledger.at_peak), ("end", ledger.live)):
        figure = ledger.draw_devices(what)
        figure.canvas.draw()
        (axes,) = figure.axes
        assert axes.get_ylabel() == "MiB"
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["cuda:0", "cuda:1"]
        tops = [sum(bar[place].get_height() for bar in axes.containers) for place in (0, 1)]
        assert tops == pytest.approx([sum(sizes(index).values()) / 2**20 for index in (0, 1)])
        assert "Virtual GPU" in axes.get_title(loc="left")
    with pytest.raises(ValueError, match="neither"):
        ledger.draw_devices("middle")


@pytest.mark.filterwarnings("error")
def test_bars_of_gpus_that_hold_nothing_any_more():
    with course_utils.track_memory() as ledger:
        torch.zeros(5, device="cuda")
    figure = ledger.draw_devices("end")
    figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.00"]
    assert figure.legends[0].get_texts() == []


def test_very_short_phases_join_the_one_before():
    from course_utils.memory.drawing import _runs

    phases = ["forward"] * 100 + ["other"] + ["forward"] * 50 + ["backward"] * 149
    assert _runs(phases) == [("forward", 151), ("backward", 149)]
    assert _runs(["other", *phases]) == [("forward", 152), ("backward", 149)]
    assert _runs(["other"]) == [("other", 1)]


# ---- replaying what only a real GPU writes --------------------------------------------------------------
def entry(action, size, address=0, time=0, text=""):
    return {"action": action, "size": size, "addr": address, "time_us": time, "user_metadata": text}


def segment(size, *blocks):
    names = ("address", "size", "requested_size", "state")
    return {"total_size": size, "blocks": [dict(zip(names, block, strict=True)) for block in blocks]}


def test_replay_of_segments_and_blocks_from_before():
    before = segment(4096, (0, 1024, 600, "active_allocated"), (1024, 3072, 0, "inactive"))
    trace = [
        entry("segment_alloc", 2**21, 8192, 1),
        entry("alloc", 100, 8192, 2, "forward | a | mm"),
        entry("free_requested", 600, 0, 3),
        entry("free_completed", 600, 0, 3),
        entry("segment_free", 4096, 0, 4),
        entry("free_requested", 7, 12345, 5),  # of nobody we know
        entry("oom", 10**9, 0, 6),
        entry("snapshot", 0, 0, 7),
    ]
    timeline = history.replay([before], trace, [])
    assert timeline.total == [1024, 1536, 512]
    assert timeline.reserved == [4096, 4096 + 2**21, 4096 + 2**21]
    assert [block.label for block in timeline.blocks] == ["before the block", "forward of a: mm"]


def test_what_is_freed_begins_no_phase_except_after_a_step():
    trace = [
        entry("alloc", 512, 0, 1, "forward | a | relu"),
        entry("alloc", 512, 512, 2, "backward | a | mm"),
        entry("free_requested", 512, 0, 3, "forward | a | relu"),  # by a thread that saw no backward
        entry("alloc", 512, 0, 4, "optimizer step | A | mul"),
        entry("free_requested", 512, 0, 5, "backward | a | mm"),
        entry("free_requested", 512, 512, 6, Label().text),
    ]
    phases = history.replay([], trace, []).phases[1:]
    step = "optimizer step"
    assert phases == ["forward", "backward", "backward", step, step, "other"]


def test_a_librarys_workspace_is_no_activation():
    trace = [
        entry("alloc", 1000, 0, 1, "forward | a | addmm"),
        entry("alloc", 2**23, 1024, 2, "forward | a | addmm"),
    ]
    replayed = history.replay([], trace, [Mark(3, 0, "activations")])
    assert [block.category for block in replayed.blocks] == ["activations", "other"]


def test_a_mark_means_the_block_that_lived_then():
    trace = [
        entry("alloc", 512, 0, 10),
        entry("free_requested", 512, 0, 20),
        entry("alloc", 512, 0, 30),
        entry("free_requested", 512, 0, 40),
        entry("alloc", 512, 0, 50),
    ]
    marks = [Mark(30, 0, "gradients"), Mark(47, 0, "parameters"), Mark(60, 999, "inputs")]
    # the second mark came 3 microseconds before its block: two clocks
    categories = [block.category for block in history.replay([], trace, marks).blocks]
    assert categories == ["other", "gradients", "parameters"]


def test_the_surest_mark_wins():
    trace = [entry("alloc", 512, 0, 1, "forward | a | relu"), entry("alloc", 512, 512, 1, "other |  | mul")]
    weak = [Mark(2, 0, "inputs", sure=False), Mark(2, 512, "inputs", sure=False)]
    strong = [*weak, Mark(3, 0, "inputs"), Mark(4, 512, "gradients"), Mark(5, 512, "parameters")]
    for marks, categories in ((weak, ["activations", "inputs"]), (strong, ["inputs", "parameters"])):
        assert [block.category for block in history.replay([], trace, marks).blocks] == categories
