"""Saving and loading: a checkpoint remembers its devices."""

import io

import torch
from torch import nn

from .table import CPU, CUDA0, CUDA1, Raises, Table, exactly

TABLE = Table("Saving and loading")


@TABLE.helper
def reload(thing: object, **options: object) -> object:
    """Save to memory and load again."""
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, **options)


TABLE.add(
    CUDA0,
    "reload(gpu).device",
    'reload(cpu, map_location="cuda").device',
    'reload(gpu1, map_location="cuda:0").device',
)
TABLE.add(CUDA1, "reload(gpu1).device", 'reload(gpu, map_location={"cuda:0": "cuda:1"}).device')
TABLE.add(CUDA1, "reload(gpu, map_location=lambda storage, location: storage.cuda(1)).device")
TABLE.add(
    CPU,
    'reload(gpu, map_location="cpu").device',
    "reload(gpu, map_location=lambda storage, location: storage).device",
)
TABLE.add(CPU, 'reload({"a": [gpu]}, map_location="cpu")["a"][0].device', "reload(cpu).device")
TABLE.add(
    [1.0, 2.0, 3.0],
    "reload(gpu).tolist()",
    'reload(gpu, map_location="cpu").tolist()',
    "reload(gpu, weights_only=True).tolist()",
)
TABLE.add(
    True, "reload(gpu.requires_grad_()).requires_grad", "isinstance(reload(nn.Parameter(gpu)), nn.Parameter)"
)
TABLE.add({"cuda:0"}, "{str(t.device) for t in reload(nn.Linear(2, 2).cuda().state_dict()).values()}")
TABLE.add(
    {"cpu"},
    "{str(t.device) for t in reload(nn.Linear(2, 2).cuda().state_dict(), map_location='cpu').values()}",
)
TABLE.add(
    Raises(
        RuntimeError,
        r"Attempting to deserialize object on CUDA device (\d+) but torch\.cuda\.device_count\(\) is \1\. "
        r"Please use torch\.load with map_location to map your storages to an existing device\.",
    ),
    'reload(gpu, map_location=f"cuda:{COUNT}")',
)


@TABLE.situation([CUDA0, CUDA0])
def load_state_dict_copies() -> object:
    """module.load_state_dict copies CPU values into GPU parameters; they stay on the GPU"""
    module = nn.Linear(2, 2).cuda()
    module.load_state_dict({name: value.cpu() for name, value in module.state_dict().items()})
    return [module.weight.device, module.bias.device]


@TABLE.situation(CPU)
def load_state_dict_assign() -> object:
    """module.load_state_dict(..., assign=True) takes the CPU tensors themselves"""
    module = nn.Linear(2, 2).cuda()
    module.load_state_dict({name: value.cpu() for name, value in module.state_dict().items()}, assign=True)
    return module.weight.device


@TABLE.situation([True, True])
def shared_storage_survives() -> object:
    """A tensor and its view still share memory after loading"""
    base = torch.arange(4.0, device="cuda")
    first, second = reload([base, base[1:]])
    second.fill_(9.0)
    return [first.tolist() == [0.0, 9.0, 9.0, 9.0], first.device == CUDA0]


@TABLE.situation(
    exactly(
        RuntimeError,
        "Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False. "
        "If you are running on a CPU-only machine, please use torch.load with "
        "map_location=torch.device('cpu') to map your storages to the CPU.",
    )
)
def checkpoint_on_a_cpu_machine() -> object:
    """A GPU checkpoint on a machine where torch.cuda.is_available() is False"""
    file = io.BytesIO()
    torch.save(torch.ones(1, device="cuda"), file)
    file.seek(0)
    available, torch.cuda.is_available = torch.cuda.is_available, lambda: False
    try:
        return torch.load(file)
    finally:
        torch.cuda.is_available = available


@TABLE.situation([1.0, CPU, CUDA0])
def resume_training() -> object:
    """Model and optimizer, saved on the GPU, loaded to the CPU, resumed on the GPU"""
    model = nn.Linear(1, 1).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 1, device="cuda")).sum().backward()
    optimizer.step()
    saved = reload({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, map_location="cpu")
    fresh = nn.Linear(1, 1).cuda()
    fresh.load_state_dict(saved["model"])
    resumed = torch.optim.Adam(fresh.parameters())
    resumed.load_state_dict(saved["optimizer"])
    state = resumed.state[fresh.weight]
    return [state["step"].item(), saved["optimizer"]["state"][0]["exp_avg"].device, state["exp_avg"].device]
