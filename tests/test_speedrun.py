"""The speed run: at most 150 readable lines, each piece does what it says, and the whole of it learns."""

import re
import runpy
import sys
import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision

import course_utils
from course_utils.distributed.scripts import speedrun
from course_utils.exercises.instruments.recorder import recording

FILE = Path(speedrun.__file__)
SMALL = {"widths": (8, 16, 32), "epochs": 4, "batch": 64, "lr": 0.3, "decay": 5e-4}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def drawings() -> list[torch.Tensor]:
    """Pictures and labels of the stand-in, for training and for the test."""
    sets = course_utils.load_cifar10(folder="standin", train_size=1000, test_size=300)
    return [torch.as_tensor(part) for some in sets for part in (some.data, some.targets)]


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Run the file as a command in an empty folder."""

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["speedrun.py", *arguments])
        runpy.run_path(str(FILE), run_name="__main__")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    return run


def test_the_file_is_short_and_stands_alone():
    text = FILE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert "course_utils" not in text


def test_the_command_prints_each_seed_and_then_their_mean(drawings, command, capsys):
    names = ("pictures", "labels", "test_pictures", "test_labels")
    torch.save({name: part[:100] for name, part in zip(names, drawings, strict=True)}, "pictures.pt")
    command("--recipe", "cpu-2-minutes", "--seeds", "2")
    *seeds, mean = capsys.readouterr().out.splitlines()[-3:]
    accuracy = [
        float(re.fullmatch(rf"seed {n}: accuracy (.+)% in .+ s", line)[1]) for n, line in enumerate(seeds)
    ]
    assert float(re.match(r"mean accuracy (.+)% in .+ s, spread .+% and .+ s", mean)[1]) == pytest.approx(
        sum(accuracy) / 2, abs=0.01
    )


@pytest.mark.parametrize("content", [b"", b"no pictures", b"PK\x03\x04 cut off"], ids=repr)
def test_a_damaged_file_gives_one_line(command, content):
    Path("pictures.pt").write_bytes(content)
    with pytest.raises(SystemExit) as stopped:
        command("--recipe", "gpu")
    (line,) = str(stopped.value).splitlines()
    assert line.startswith("pictures.pt: damaged, or missing and not downloaded: ")


def test_without_a_file_and_without_a_network_it_gives_one_line(command, monkeypatch):
    def no_network(*_, **__):
        raise urllib.error.URLError(OSError(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", no_network)
    with pytest.raises(SystemExit, match=r"^elsewhere\.pt: damaged, or missing .*Temporary failure"):
        command("elsewhere.pt", "--recipe", "gpu")


def test_without_a_file_it_takes_what_torchvision_downloads(monkeypatch, drawings, tmp_path):
    class Downloaded:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            start = 0 if train else 2
            self.data, self.targets = drawings[start].numpy(), drawings[start + 1].tolist()
            assert download

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Downloaded)
    for got, want in zip(speedrun.load(tmp_path / "missing.pt"), drawings, strict=True):
        assert torch.equal(got, want)
        assert got.dtype == want.dtype


def test_it_learns_and_the_seed_decides_all(drawings):
    first, _ = speedrun.speedrun(drawings, CPU, SMALL, seed=0)
    second, _ = speedrun.speedrun(drawings, CPU, SMALL, seed=0)
    assert first > 0.5  # guessing is right for 0.1
    assert first == second


def test_an_epoch_has_every_picture_once_in_a_new_order():
    marked = torch.arange(100, dtype=torch.uint8)[:, None, None, None].expand(100, 32, 32, 3)
    flip = torch.zeros(100, 1, dtype=torch.bool)
    orders = []
    for _ in range(2):
        inputs, labels = zip(*speedrun.batches(marked, torch.arange(100), 32, flip), strict=True)
        assert [len(part) for part in labels] == [32, 32, 32, 4]
        orders.append(torch.cat(labels))
        assert torch.equal(torch.cat(inputs)[:, 0, 5, 5].mul(64).add(121).round().long(), orders[-1])
    assert not torch.equal(*orders)
    assert torch.equal(orders[0].sort().values, torch.arange(100))


def test_every_second_epoch_mirrors_the_other_pictures(monkeypatch):
    flips = []
    monkeypatch.setattr(speedrun, "batches", lambda pictures, labels, size, flip: flips.append(flip) or [])
    pictures = torch.randint(256, (400, 32, 32, 3), dtype=torch.uint8)
    speedrun.train(pictures, torch.zeros(400, dtype=torch.long), **SMALL | {"epochs": 3})
    assert 100 < flips[0].sum() < 300
    assert torch.equal(flips[1], ~flips[0])
    assert torch.equal(flips[2], flips[0])


def test_flip_mirrors_and_shift_moves_by_up_to_two():
    ramp = torch.arange(32, dtype=torch.uint8).expand(50, 32, 32)[..., None].expand(50, 32, 32, 3)
    flip = torch.arange(50)[:, None] < 25
    for inputs, labels in speedrun.batches(ramp, torch.arange(50), 50, flip):
        rows = inputs[labels.argsort(), 0, 16].mul(64).add(121).round()  # (50, 32): where each pixel was
        shifts = torch.where(flip, rows[:, 2:30].flip(1), rows[:, 2:30]) - torch.arange(2, 30)
        assert shifts.unique().tolist() == [-2, -1, 0, 1, 2]
        assert (shifts == shifts[:, :1]).all()


def test_whitening_makes_uncorrelated_numbers(drawings):
    pictures = speedrun.numbers(drawings[0])
    conv = speedrun.whitening(pictures, least=0)
    made = conv(pictures).transpose(0, 1).flatten(1).double()
    positive, negative = made.split(12)
    assert torch.allclose(positive @ positive.T / positive.shape[1], torch.eye(12).double(), atol=0.02)
    assert torch.equal(positive, -negative)
    assert not any(parameter.requires_grad for parameter in conv.parameters())


def test_a_layer_begins_by_copying_and_its_batchnorm_keeps_its_scale():
    conv, norm, _ = speedrun.layer(3, 5)
    pictures = torch.randn(2, 3, 8, 8)
    assert torch.equal(conv(pictures)[:, :3], pictures)
    assert (norm.weight.requires_grad, norm.bias.requires_grad) == (False, True)


def test_only_what_learns_has_changed(drawings):
    torch.manual_seed(0)
    model = speedrun.train(drawings[0][:128], drawings[1][:128], **SMALL)
    torch.manual_seed(0)
    fresh = speedrun.make_net(SMALL["widths"], speedrun.whitening(speedrun.numbers(drawings[0][:128])))
    for (name, old), new in zip(fresh.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(old, new) is not new.requires_grad, name
    assert sum(not parameter.requires_grad for parameter in model.parameters()) == 1 + 6


def test_the_learning_rate_is_a_triangle():
    shares = [speedrun.triangle(step, 1000) for step in range(1001)]
    assert (shares[0], shares[1000]) == (0.2, 0)
    assert max(shares) == shares[230] == pytest.approx(1)
    assert shares[:231] == sorted(shares[:231])
    assert shares[230:] == sorted(shares[230:], reverse=True)


def test_a_prediction_is_the_same_for_the_mirror_image(drawings):
    torch.manual_seed(0)
    model = speedrun.make_net((8, 16, 32), speedrun.whitening(speedrun.numbers(drawings[0])))
    found = speedrun.predict(model, drawings[2])
    assert not model.training
    assert (found == speedrun.predict(model, drawings[2].flip(2))).float().mean() > 0.99
    assert len(found.unique()) > 1


@pytest.mark.parametrize(("device", "allowed", "instructions", "dtype"), [
    ("cuda", "AVX2", {}, torch.float16),
    ("cpu", "AVX512", {"avx512_bf16": True}, torch.bfloat16),
    ("cpu", "AVX512", {"amx_bf16": True}, torch.bfloat16),
    ("cpu", "AVX512", {"avx512_bf16": False}, None),
    ("cpu", "AVX2", {"avx512_bf16": True}, None),  # by ATEN_CPU_CAPABILITY: PyTorch would compute it slowly
])  # fmt: skip
def test_sixteen_bits_where_they_are_fast(device, allowed, instructions, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: allowed)
    with course_utils.virtual_gpus(count=1):
        context = speedrun.autocast(torch.device(device))
        assert (context.fast_dtype if context._enabled else None) == dtype


def test_the_loop_waits_for_nothing():
    """Whatever the number of epochs, as many bytes travel between the CPU and the GPU."""
    pictures = torch.randint(256, (64, 32, 32, 3), dtype=torch.uint8)
    bytes_moved = []
    with course_utils.virtual_gpus(count=1):
        data = pictures.cuda(), torch.arange(64).cuda() % 10
        for epochs in (1, 3):
            with recording() as record:
                model = speedrun.train(*data, **SMALL | {"epochs": epochs})
            bytes_moved.append(record.copies)
        with recording() as record:
            speedrun.predict(model, data[0])
    assert bytes_moved[0] == bytes_moved[1]
    assert not record.copies
