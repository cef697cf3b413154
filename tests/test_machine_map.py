"""The map says truly what lies where, draws it readably, and holds on to nothing."""

import itertools
import re
import weakref
from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyArrowPatch, Patch
from matplotlib.transforms import Bbox
from torch import nn

from course_utils import draw_machine, virtual_gpus
from course_utils.figures.machine_map import MachineMap, drawing, layout
from course_utils.figures.machine_map.placement import format_bytes


class Net(nn.Module):
    """Five ways to hold numbers; only three of them are registered."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(10, 5)
        self.register_buffer("mean", torch.zeros(10))
        self.register_buffer("draft", torch.zeros(4), persistent=False)
        self.mask = torch.ones(10)
        self.layers = [nn.Linear(10, 10)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x - self.mean)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)


@pytest.fixture(autouse=True)
def gpus() -> Iterator[None]:
    with virtual_gpus(count=8, memory="2 GiB"):
        yield


def describe(**named: object) -> str:
    return draw_machine(**named).description


def patch(figure: MachineMap, gid: str) -> Patch:
    return next(item for item in figure.axes[0].patches if item.get_gid() == gid)


def words(figure: MachineMap) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


# ---- what it says -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_gpu")
def test_a_machine_without_gpus_is_one_box() -> None:
    figure = draw_machine(x=torch.zeros(3, 4))
    assert figure.description == "cpu: x (3, 4) float32 48 B"
    assert words(figure) == ["cpu", "host memory", "x", "48 B", "(3, 4)", "float32"]


@pytest.mark.usefixtures("no_gpu")
def test_nothing_to_draw_is_an_empty_machine() -> None:
    assert describe() == "cpu: nothing named here"


def test_a_moved_tensor_is_a_second_block() -> None:
    x = torch.zeros(3, 4)
    assert describe(x=x) == "cpu: x (3, 4) float32 48 B\ncuda:0 (virtual): nothing named here"
    assert describe(x=x, y=x.to("cuda:1", torch.float16), copies={"y": "x"}) == (
        "cpu: x (3, 4) float32 48 B\ncuda:1 (virtual): y (3, 4) float16 24 B\ncopy: x -> y"
    )


def test_gpus_argument_adds_empty_ones_that_exist() -> None:
    y = torch.zeros(1, device="cuda:5")
    assert re.findall(r"cuda:\d", describe(y=y)) == ["cuda:5"]
    assert re.findall(r"cuda:\d", describe(y=y, gpus=2)) == ["cuda:0", "cuda:1", "cuda:5"]
    assert len(re.findall(r"cuda:\d", describe(y=y, gpus=99))) == 8


def test_a_module_is_split_by_device_and_shows_what_was_left_behind() -> None:
    model = Net().to("cuda:0")
    assert describe(model=model).splitlines() == [
        "cpu: model.mask (10,) float32 40 B; not registered",
        "cpu: model.layers[0] Linear float32 440 B; parameters 440 B; not registered",
        "cuda:0 (virtual): model Net float32 276 B; parameters 220 B; buffers 56 B",
    ]
    model.mask, model.layers = torch.ones(0), []
    model.fc.to("cuda:3")
    assert describe(model=model).splitlines()[1:] == [
        "cuda:0 (virtual): model Net float32 56 B; buffers 56 B",
        "cuda:3 (virtual): model Net float32 220 B; parameters 220 B",
    ]


def test_gradients_and_optimizer_state_appear_when_they_exist() -> None:
    model = nn.Linear(10, 5).to("cuda:0")
    optimizer = torch.optim.Adam(model.parameters())
    assert "cuda:0 (virtual): optimizer Adam 0 B; no memory of its own" in describe(optimizer=optimizer)
    model(torch.ones(2, 10, device="cuda:0")).sum().backward()
    optimizer.step()
    assert describe(model=model, optimizer=optimizer).splitlines() == [
        "cpu: optimizer Adam 8 B; step 8 B",
        "cuda:0 (virtual): model Linear float32 440 B; parameters 220 B; gradients 220 B",
        "cuda:0 (virtual): optimizer Adam 440 B; exp_avg 220 B; exp_avg_sq 220 B",
    ]


def test_data_parallel_shows_the_original_and_the_replicas_to_come() -> None:
    lines = describe(model=nn.DataParallel(nn.Linear(10, 5).to("cuda:0"))).splitlines()
    assert lines[1] == "cuda:0 (virtual): model DataParallel(Linear) float32 220 B; parameters 220 B"
    replicas = [f"cuda:{i} (virtual): replica of model made in each forward" for i in range(1, 8)]
    assert lines[2:] == replicas


def test_replicas_made_by_hand_have_parameters() -> None:
    replicas = nn.parallel.replicate(nn.Linear(10, 5).to("cuda:0"), [0, 1])
    assert describe(replicas=replicas).splitlines()[1:] == [
        "cuda:0 (virtual): replicas[0] Linear float32 220 B; parameters 220 B",
        "cuda:1 (virtual): replicas[1] Linear float32 220 B; parameters 220 B",
    ]


def test_a_batch_split_over_gpus_is_a_block_on_each() -> None:
    parts = nn.parallel.scatter(torch.zeros(30, 5), list(range(8)))
    lines = describe(parts=parts).splitlines()[1:]
    assert lines[0] == "cuda:0 (virtual): parts[0] (4, 5) float32 80 B"
    assert lines[7] == "cuda:7 (virtual): parts[7] (2, 5) float32 40 B"


@pytest.mark.usefixtures("no_gpu")
def test_containers_name_what_is_in_them_and_group_many() -> None:
    batch = {"images": torch.zeros(2, 3), "meta": ["file.png", (torch.zeros(1), None)]}
    assert describe(batch=batch).splitlines() == [
        "cpu: batch['images'] (2, 3) float32 24 B",
        "cpu: batch['meta'][1][0] (1,) float32 4 B",
    ]
    assert describe(many=[torch.zeros(2) for _ in range(5)]) == "cpu: many 5 tensors 40 B"


# ---- memory is counted once ---------------------------------------------------------------------------


@pytest.mark.usefixtures("no_gpu")
def test_two_names_of_one_tensor_are_one_block() -> None:
    x = torch.zeros(3, 4)
    assert describe(row=x[0], x=x, y=x, turned=x.T) == (
        "cpu: x, y (3, 4) float32 48 B; row: view (4,); turned: view (4, 3)"
    )
    assert describe(x=x, rows=list(x.chunk(3)) * 2) == (
        "cpu: x (3, 4) float32 48 B\ncpu: rows 6 tensors 0 B; no memory of its own"
    )


def test_views_on_a_virtual_gpu_are_seen() -> None:
    y = torch.zeros(3, 4, device="cuda:0")
    assert describe(y=y, row=y[0]).endswith("cuda:0 (virtual): y (3, 4) float32 48 B; row: view (4,)")


@pytest.mark.usefixtures("no_gpu")
def test_a_view_says_how_much_it_keeps_alive() -> None:
    assert describe(row=torch.zeros(256, 4)[0]) == "cpu: row (4,) float32 16 B; view into 4.0 KiB"
    assert describe(wide=torch.zeros(1).expand(1000)) == "cpu: wide (1000,) float32 4 B"
    assert describe(parts=torch.zeros(8, 2).chunk(8)) == "cpu: parts 8 tensors 64 B"


@pytest.mark.usefixtures("no_gpu")
def test_a_parameter_named_again_belongs_to_its_module() -> None:
    model = nn.Linear(10, 5)
    assert describe(weight=model.weight, model=model) == (
        "cpu: model Linear float32 220 B; parameters 220 B; weight: shared (5, 10)"
    )
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    assert describe(tied=tied, alias=tied).splitlines()[0].endswith("parameters 96 B")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.tensor(1.0), "() float32 4 B"),
        (torch.zeros(0, 3), "(0, 3) float32 0 B"),
        (torch.eye(3).to_sparse(), "(3, 3) float32"),
        (nn.ReLU(), "ReLU 0 B; no memory of its own"),
        (nn.LazyLinear(3), "LazyLinear 0 B; no memory of its own"),
        (nn.Linear(1, 1).half(), "Linear float16 4 B; parameters 4 B"),
        (nn.LSTM(1, 1), "LSTM float32 64 B; parameters 64 B"),
    ],
)
def test_unusual_objects(value: object, text: str) -> None:
    assert describe(x=value) == f"cpu: x {text}"


def test_the_meta_device_holds_shapes_only() -> None:
    figure = draw_machine(x=torch.zeros(3, device="meta"))
    assert figure.description.splitlines()[-1] == "meta: x (3,) float32 0 B"
    assert "shapes only" in words(figure)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1048575, "1.0 MiB"),
        (2**31, "2.0 GiB"),
        (2**52, "4096.0 TiB"),
    ],
)
def test_format_bytes(nbytes: int, text: str) -> None:
    assert format_bytes(nbytes) == text


# ---- what it refuses ----------------------------------------------------------------------------------


def test_a_value_that_is_nowhere_is_refused() -> None:
    with pytest.raises(TypeError, match="lr is a float; the map shows tensors, modules"):
        draw_machine(lr=0.1)


def test_an_arrow_needs_both_ends() -> None:
    with pytest.raises(ValueError, match="'y', which is not on the map: pass that object too"):
        draw_machine(x=torch.zeros(1), copies={"y": "x"})


# ---- how it looks -------------------------------------------------------------------------------------


def test_a_virtual_gpu_has_a_dashed_edge_and_a_real_one_a_solid_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = draw_machine(gpus=1)
    assert patch(figure, "box cuda:0").get_linestyle() == drawing.DASHED
    assert patch(figure, "box cpu").get_linestyle() == "solid"
    assert "virtual" in words(figure)
    monkeypatch.setattr(layout, "is_active", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    figure = draw_machine(gpus=1)
    assert patch(figure, "box cuda:0").get_linestyle() == "solid"
    assert "H200" in words(figure)
    assert figure.description == "cpu: nothing named here\ncuda:0: nothing named here"


def test_the_meter_shows_what_the_allocator_counts() -> None:
    y = torch.zeros(3, 4, device="cuda:0")
    used = torch.cuda.memory_allocated(0)
    assert f"{format_bytes(used)} of 2.0 GiB in use" in words(draw_machine(y=y))
    assert torch.cuda.memory_allocated(0) == used


def test_a_mac_has_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 512)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 2**33)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("mps"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    figure = draw_machine(x=torch.zeros(1))
    assert words(figure)[-3:] == ["Apple GPU", "nothing named here", "512 B of 8.0 GiB in use"]


def inside(figure: MachineMap, gid: str) -> Bbox:
    return patch(figure, gid).get_path().get_extents().padded(-0.02)


def test_arrows_cross_no_block_and_no_other_device() -> None:
    x = torch.zeros(30, 5)
    parts = nn.parallel.scatter(x, list(range(8)))
    named = {
        "x": x,
        "parts": parts,
        "out": parts[5].cpu(),
        "twin": parts[2].clone(),
        "far": parts[1].to("cuda:3"),
    }
    copies = {"parts": "x", "out": "parts[5]", "twin": "parts[2]", "far": "parts[1]"}
    figure = draw_machine(copies=copies, model=nn.DataParallel(nn.Linear(5, 1).to("cuda:0")), **named)
    home = {f"parts[{i}]": f"cuda:{i}" for i in range(8)}
    home |= {"x": "cpu", "out": "cpu", "twin": "cuda:2", "far": "cuda:3"}
    blocks = [inside(figure, f"block {name}") for name in home]
    arrows = [item for item in figure.axes[0].patches if isinstance(item, FancyArrowPatch)]
    assert len(arrows) == figure.description.count("copy: ") == 8 + 3
    for arrow in arrows:
        own = {home[name] for name in arrow.get_gid().removeprefix("copy ").split(" -> ")}
        others = [inside(figure, f"box {device}") for device in {*home.values()} - own]
        path = arrow.get_path()
        lines = itertools.compress(itertools.pairwise(path.vertices), path.codes[1:] != path.CLOSEPOLY)
        points = (
            start + (end - start) * share for start, end in lines for share in (0.1, 0.3, 0.5, 0.7, 0.9)
        )
        assert not any(area.contains(*point) for point in points for area in [*blocks, *others]), (
            arrow.get_gid()
        )


def test_an_arrow_to_the_neighbour_is_straight() -> None:
    x = torch.zeros(3)
    figure = draw_machine(x=x, y=x.to("cuda:0"), copies={"y": "x"})
    height = patch(figure, "block x").get_path().get_extents()
    line = patch(figure, "copy x -> y").get_path().vertices[:8, 1]
    assert set(line.round(6)) == {round((height.y0 + height.y1) / 2, 6)}


@pytest.mark.parametrize("blocks_on_host", [1, 20])
def test_the_host_is_as_high_as_all_rows_of_gpus(blocks_on_host: int) -> None:
    figure = draw_machine(gpus=8, **{f"x{i}": torch.zeros(1) for i in range(blocks_on_host)})
    host, first, last = (inside(figure, f"box {device}") for device in ("cpu", "cuda:0", "cuda:7"))
    assert (host.y0, host.y1) == pytest.approx((first.y0, last.y1))
    assert inside(figure, f"block x{blocks_on_host - 1}").y1 < host.y1


def crowded() -> dict[str, object]:
    """Everything at once, with names that do not fit."""
    return {
        "a_name_that_is_much_longer_than_any_block_is_wide": torch.zeros(128, 3, 32, 32),
        "$x_1$": torch.zeros(1, 2, 3, 4, 5, 6, 7, 8, 9, dtype=torch.complex128),
        "model": nn.DataParallel(Net().to("cuda:0")),
        "parts": nn.parallel.scatter(torch.zeros(128, 3, 32, 32, dtype=torch.bfloat16), list(range(8))),
    }


@pytest.mark.parametrize("count", [1, 4, 8])
def test_no_text_leaves_its_box_or_meets_another(count: int) -> None:
    named = crowded() if count == 8 else {"x" * 50: torch.zeros(3), "y" * 50: torch.zeros(3, device="cuda:0")}
    figure = draw_machine(gpus=count, **named)
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    extents = [text.get_window_extent(renderer) for text in texts]
    frames = [item for item in figure.axes[0].patches if (item.get_gid() or "").startswith(("block", "box"))]
    frames = [item.get_window_extent(renderer) for item in frames]
    for number, (text, extent) in enumerate(zip(texts, extents, strict=True)):
        homes = [
            frame
            for frame in frames
            if frame.contains((extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2)
        ]
        assert homes, text
        assert all(frame.x0 < extent.x0 and extent.x1 < frame.x1 for frame in homes), text
        for other in extents[number + 1 :]:
            assert not (extent.padded(-1.5).overlaps(other.padded(-1.5))), text
    assert min(text.get_fontsize() for text in texts) >= 11
    assert figure.get_figwidth() <= 13


def test_the_same_machine_is_drawn_the_same_way() -> None:
    named = crowded()
    one, two = draw_machine(**named), draw_machine(**named)
    assert words(one) == words(two)
    assert tuple(one.get_size_inches()) == tuple(two.get_size_inches())


# ---- how it behaves -----------------------------------------------------------------------------------


def test_it_keeps_nothing_alive() -> None:
    x = torch.zeros(3)
    model = nn.Linear(2, 2)
    watched = [weakref.ref(x), weakref.ref(model), weakref.ref(model.weight)]
    figure = draw_machine(x=x, model=model, batch=[x[:2]])
    del x, model
    assert [ref() for ref in watched] == [None] * 3
    assert figure.description


def test_a_notebook_shows_it_once_with_its_text() -> None:
    shown = []
    display = pytest.importorskip("IPython.display", reason="only notebooks need it")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(display, "display", lambda data, **options: shown.append((data, options)))
        draw_machine(x=torch.zeros(3))._ipython_display_()
    [(data, options)] = shown
    assert data["image/png"].startswith("iVBOR")
    assert data["text/plain"].startswith("cpu: x (3,) float32 12 B")
    assert options == {"raw": True, "metadata": {"image/png": {"alt": data["text/plain"]}}}
    assert plt.get_fignums() == []


def test_it_prints_as_text() -> None:
    figure = draw_machine(x=torch.zeros(3))
    assert str(figure) == repr(figure) == figure.description
