"""Virtual GPUs as a whole: switching on and off, bytes, numbers equal to the CPU's, saving, randomness."""

import gc
import inspect
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.torch_version import TorchVersion
from torch.utils.checkpoint import checkpoint

import course_utils
from course_utils import virtual
from course_utils.virtual import machine as machine_module
from course_utils.virtual.errors import CARDS
from course_utils.virtual.startup.sitecustomize import visible

ROOT = Path(__file__).parents[1]
PATCHED = (
    torch,
    torch._C,
    torch.Tensor,
    torch.cuda,
    torch.cuda.memory,
    torch.cuda.random,
    torch.accelerator,
    torch.autograd,
    torch.autograd.Function,
    torch.autocast,
    torch.serialization,
    torch._utils,
    torch.backends.cudnn,
    torch.nn.parallel.comm,
    sys.modules["torch.nn.parallel.parallel_apply"],
    torch.utils._device.DeviceContext,
    torch.nn.parameter.UninitializedTensorMixin,
)


@pytest.fixture
def machine():
    with course_utils.virtual_gpus(8, "64 MiB") as machine:
        yield machine


def run_alone(code: str, **env: str) -> subprocess.CompletedProcess:
    """Run `code` in a new interpreter, where nothing has touched CUDA yet."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **env}
    )


# ---- switching -----------------------------------------------------------------------------------------
def test_everything_is_put_back_exactly():
    before = [dict(vars(owner)) for owner in PATCHED]
    with course_utils.virtual_gpus(3):
        changed = [dict(vars(owner)) for owner in PATCHED]
    after = [dict(vars(owner)) for owner in PATCHED]
    for owner, old, new in zip(PATCHED, before, after, strict=True):
        assert old.keys() == new.keys(), owner
        assert all(old[name] is new[name] for name in old), owner
    assert changed != before
    assert not virtual.is_active()


def test_an_error_inside_puts_everything_back_too():
    with pytest.raises(ZeroDivisionError), course_utils.virtual_gpus(2):
        1 / 0  # noqa: B018
    assert not virtual.is_active()
    assert torch.ones(2).device.type == "cpu"


def test_the_same_settings_nest_and_others_are_refused():
    with course_utils.virtual_gpus(2, "1 GiB") as outer:
        with course_utils.virtual_gpus(2, 2**30) as inner:
            assert inner is outer
        assert virtual.is_active()
        with pytest.raises(RuntimeError, match="already on: 2 with 1073741824 bytes each"):
            virtual.switch_on(3, "1 GiB")


def test_a_card_gives_its_memory_capability_and_name():
    with course_utils.virtual_gpus(2, card="t4"):
        found = torch.cuda.get_device_properties(1)
        assert torch.cuda.get_device_name() == found.name == "Virtual T4 (CPU)"
        assert torch.cuda.get_device_capability() == (7, 5)
        assert torch.cuda.mem_get_info()[1] == found.total_memory == 14912 * 2**20
        assert found.max_threads_per_multi_processor == 1024
        assert torch.cuda.get_arch_list() == ["sm_75"]
        assert [torch.cuda.is_bf16_supported(emulation) for emulation in (True, False)] == [True, False]
        with pytest.raises(RuntimeError, match=r"bytes each as T4\. .* 2 with 2147483648 bytes each\.$"):
            virtual.switch_on(2)
    with course_utils.virtual_gpus(1, "1 GiB", card="L4") as machine:
        assert machine.capacity == 2**30
        assert torch.cuda.is_bf16_supported(including_emulation=False)


def test_every_card_has_limits_and_a_source():
    for card, told in CARDS.items():
        with course_utils.virtual_gpus(1, card=card):
            assert [*torch.cuda.get_device_capability()] == told["capability"]
        assert told["source"].startswith("https://")


def test_an_unknown_card_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match=r"^card='K80' is not known\. Choose one of: V100, .*, RTX-5090\.$"):
        virtual.switch_on(card="K80")


@pytest.mark.parametrize(
    ("names", "seen"), [(None, 4), ("", 0), ("-1", 0), ("2", 1), ("0, 3", 2), ("1,-1,2", 1), ("0,4,1", 1)]
)
def test_a_child_sees_the_gpus_that_it_may(names, seen):
    assert visible(4, names) == seen


@pytest.mark.parametrize("count", [0, 9, -1])
def test_a_bad_count_is_refused(count):
    with pytest.raises(ValueError, match="Choose 1 to 8"):
        virtual.switch_on(count)


@pytest.mark.parametrize(
    ("text", "nbytes"), [("2 GiB", 2**31), ("512MiB", 2**29), ("1.5 KiB", 1536), (700, 700), ("700", 700)]
)
def test_memory_sizes(text, nbytes):
    assert virtual.parse_memory(text) == nbytes


@pytest.mark.parametrize("text", ["2 GB and a half", "", "-1 GiB", "0", "GiB", "2 GiBi"])
def test_bad_memory_sizes_are_refused_in_one_line(text):
    with pytest.raises(ValueError, match="Write") as caught:
        virtual.parse_memory(text)
    assert "\n" not in str(caught.value)


def test_an_old_torch_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.9.1+cpu"))
    with pytest.raises(RuntimeError, match=r"need torch 2\.10 or newer; this is torch 2\.9\.1"):
        virtual.switch_on()


def test_a_pytorch_built_without_cuda_has_virtual_gpus_too():
    out = run_alone(
        inspect.cleandoc("""
        import torch
        for name in [name for name in dir(torch._C) if name.startswith("_cuda_")]:
            delattr(torch._C, name)
        import course_utils
        with course_utils.virtual_gpus(2):
            torch.cuda.set_device(1)
            with torch.cuda.stream(torch.cuda.Stream()), torch.autocast("cuda"):
                y = torch.nn.Linear(2, 2, device="cuda")(torch.ones(3, 2, device="cuda"))
            torch.cuda.synchronize()
            print(y.dtype, y.device, torch.cuda.get_device_name(), torch.cuda.memory_allocated() > 0)
    """)
    )
    assert out.stdout.strip() == "torch.float16 cuda:1 Virtual GPU (CPU) True", out.stderr


def test_importing_does_not_switch_on():
    out = run_alone(
        "import torch; to = torch.Tensor.to; import course_utils.virtual as v;"
        "print(v.is_active(), to is torch.Tensor.to)"
    )
    assert out.stdout.split() == ["False", "True"], out.stderr


# ---- memory --------------------------------------------------------------------------------------------
def test_a_training_step_leaves_nothing_behind(machine):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)
    ).cuda(3)
    model(torch.zeros(2, 3, 8, 8, device="cuda:3"))
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        loss = model(torch.randn(4, 3, 8, 8, device="cuda:3")).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert machine.memory[3].allocated > 0
    del model, optimizer, loss
    gc.collect()
    assert [memory.allocated for memory in machine.memory] == [0] * 8


def test_out_of_memory_names_the_numbers_and_changes_nothing(machine):
    held = torch.empty(48 * 2**20, dtype=torch.uint8, device="cuda:2")
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(20 * 2**20, dtype=torch.uint8, device="cuda:2")
    text = str(caught.value)
    assert text.startswith(
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 2 has a total capacity of 64.00 MiB of which "
        "16.00 MiB is free. "
    )
    assert "Of the allocated memory 48.00 MiB is allocated by PyTorch, and 0 bytes is reserved" in text
    assert machine.memory[2].allocated == held.nbytes
    assert torch.cuda.memory_stats(2)["num_ooms"] == 1
    for grow in (lambda: held.to(torch.int16), lambda: held.repeat(2), lambda: held.cpu().to("cuda:2")):
        with pytest.raises(torch.OutOfMemoryError):
            grow()
    assert machine.memory[2].allocated == held.nbytes


def test_a_tensor_too_big_for_any_machine_is_refused_before_it_is_made(machine):
    with pytest.raises(torch.OutOfMemoryError):
        torch.randn(2**38, device="cuda")


def test_the_summary_prints(machine):
    _x = torch.ones(2**18, device="cuda")
    assert "CUDA OOMs: 0" in torch.cuda.memory_summary()
    assert torch.accelerator.memory_allocated() == 2**20
    assert torch.accelerator.max_memory_allocated() == 2**20


# ---- numbers -------------------------------------------------------------------------------------------
class Everything(nn.Module):
    """Convolution, normalisation, dropout, embedding, attention and recurrence in one small model."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(4)
        )
        self.embed = nn.Embedding(10, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.lstm = nn.LSTM(16, 8, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, x, tokens):
        pixels = self.conv(x).flatten(2).transpose(1, 2).reshape(len(x), 4, -1)[..., :16]
        sequence = self.encoder(torch.cat([pixels, self.embed(tokens)], 1))
        return self.head(self.lstm(sequence)[0][:, -1])


def losses_on(device: str, name: str, **options) -> list[float]:
    """Train three steps on `device` with optimizer `name`; return the losses."""
    torch.manual_seed(0)
    model = Everything().to(device)
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01, **options)
    x, tokens = torch.randn(4, 3, 16, 16).to(device), torch.randint(10, (4, 5)).to(device)
    y = torch.arange(4).to(device)
    seen = []

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, tokens), y)
        loss.backward()
        seen.append(loss.item())
        return loss

    for _ in range(3):
        optimizer.step(closure)
    return seen


OPTIMIZERS = "SGD Adam AdamW Adagrad Adadelta Adamax ASGD NAdam RAdam RMSprop Rprop LBFGS Adafactor".split()


TRAININGS = [(name, {}) for name in OPTIMIZERS]
TRAININGS += [(name, {"foreach": True}) for name in ("SGD", "Adam", "AdamW", "RMSprop")]
TRAININGS += [(name, {"fused": True}) for name in ("SGD", "Adam", "AdamW")]


@pytest.mark.parametrize(("name", "options"), TRAININGS, ids=str)
def test_losses_are_bit_identical_to_the_cpus(machine, name, options):
    assert losses_on("cuda:5", name, **options) == losses_on("cpu", name, **options)


def test_checkpointing_equals_the_plain_model(machine):
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 1)).cuda(2)
    gradients = []
    for run in (model, lambda x: checkpoint(model, x, use_reentrant=False)):
        torch.manual_seed(3)
        x = torch.ones(8, 4, device="cuda:2", requires_grad=True)
        run(x).sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


# ---- saving --------------------------------------------------------------------------------------------
def test_a_checkpoint_of_a_gpu_that_is_not_there(machine):
    file = io.BytesIO()
    torch.save(torch.ones(2, device="cuda:7"), file)
    virtual.switch_off()
    file.seek(0)
    with pytest.raises(RuntimeError, match=r"torch.cuda.is_available\(\) is False"):
        torch.load(file)
    file.seek(0)
    assert torch.load(file, map_location="cpu").tolist() == [1, 1]
    file.seek(0)
    with (
        course_utils.virtual_gpus(2),
        pytest.raises(RuntimeError, match=r"CUDA device 7 but torch.cuda.device_count\(\) is 2"),
    ):
        torch.load(file)


def test_gradients_that_moved_with_their_module_are_the_ones_a_step_uses(machine):
    weights = []
    for device in ("cpu", "cuda:2"):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        model(torch.ones(4, 3)).square().sum().backward()
        model.to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.step()
        model.weight.grad.zero_()
        optimizer.step()
        weights.append(model.weight.detach().cpu())
    assert torch.equal(*weights)


def test_shapes_changed_in_place_keep_the_graph(machine):
    gradients = []
    for device in ("cpu", "cuda"):
        x = torch.arange(6.0, device=device).view(2, 3).clone().requires_grad_()
        y = (x * 2).unsqueeze_(0).squeeze_(0)
        z = (y * y).t_()
        z[0].mul_(3)
        z.sum().backward()
        gradients.append(x.grad.cpu())
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.one_hot(x.long().flatten() % 5, 5),
        lambda x: F.cosine_similarity(x, x + 1),
        lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None], is_causal=True),
        lambda x: torch.quantile(x, 0.3),
        lambda x: torch.linalg.pinv(x),
        lambda x: torch.linalg.matrix_rank(x),
        lambda x: torch.linalg.matrix_rank(x[:0]),
        lambda x: torch.stft(x.flatten(), 4, window=torch.ones_like(x[0]), return_complex=True).conj(),
    ],
)
def test_functions_that_make_tensors_of_their_own_equal_the_cpus(machine, call):
    torch.manual_seed(0)
    x = torch.rand(5, 4)
    on_gpu = call(x.to("cuda:1"))
    assert on_gpu.device == torch.device("cuda:1")
    assert torch.equal(on_gpu.cpu(), call(x).resolve_conj())


# ---- randomness ----------------------------------------------------------------------------------------
def test_devices_share_the_cpus_stream_until_they_get_their_own(machine):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3, device="cuda").cpu(), expected)
    torch.cuda.manual_seed(7)
    own = torch.rand(3, device="cuda")
    torch.rand(5)
    torch.cuda.manual_seed(7)
    assert torch.equal(torch.rand(3, device="cuda"), own)
    cpu_before = torch.get_rng_state()
    torch.rand(3, device="cuda")
    assert torch.equal(cpu_before, torch.get_rng_state())
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3, device="cuda").cpu(), expected)


def test_generators_of_the_cpu_are_still_generators(machine):
    assert isinstance(torch.Generator(), torch.Generator)
    assert isinstance(torch.default_generator, torch.Generator)


# ---- errors that end a process, and other processes ------------------------------------------------------
def test_a_label_out_of_range_breaks_the_device_until_it_is_switched_on_again(machine):
    logits = torch.zeros(2, 3, device="cuda")
    with pytest.raises(torch.AcceleratorError, match="device-side assert triggered") as caught:
        F.cross_entropy(logits, torch.tensor([0, 3], device="cuda"))
    assert caught.value.error_code == 710
    for later in (lambda: logits + 1, torch.cuda.synchronize, lambda: torch.ones(1, device="cuda")):
        with pytest.raises(torch.AcceleratorError, match="device-side assert"):
            later()
    virtual.switch_off()
    with course_utils.virtual_gpus(1):
        assert torch.ones(1, device="cuda").item() == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("used", [True, False])
def test_a_forked_child_cannot_use_a_gpu_that_its_parent_has_used(machine, used):
    kept = torch.ones(1, device="cuda") if used else None
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = str(torch.ones(1, device="cuda").item())
        except RuntimeError as error:
            said = str(error)
        os.write(write, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(read, 200).decode()
    assert (
        said == "1.0" if kept is None else said.startswith("Cannot re-initialize CUDA in forked subprocess")
    )


def test_a_loader_with_workers_and_pinned_memory(machine):
    data = torch.utils.data.TensorDataset(torch.arange(12.0).view(6, 2), torch.arange(6))
    for x, y in torch.utils.data.DataLoader(data, 4, num_workers=2, pin_memory=True):
        assert x.is_pinned()
        assert y.is_pinned()
        assert x.to("cuda", non_blocking=True).sum().item() == x.sum().item()


def test_ledgers_are_not_shared(machine):
    other = machine_module.Machine(1, 100)
    assert other.memory[0].allocated == 0
    assert torch.ones(1, device="cuda").device.index == 0
    assert other.memory[0].allocated == 0
