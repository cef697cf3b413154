"""Errors that people meet on the way to a GPU: how to know each one, what it means, what to do.

The texts are PyTorch's, 1.5 to 2.15. `{name}` in an answer is filled in by `placeholders.py`.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """One kind of error.

    Attributes:
        pattern: regular expression searched in the error's text.
        what: what happened, in a sentence or two.
        fix: what to do; empty where that depends on the reader's objects alone.
        mix: things on different devices met, so the place of each object is part of the answer.
    """

    pattern: str
    what: str
    fix: str = ""
    mix: bool = False

    def search(self, text: str) -> re.Match[str] | None:
        return re.search(self.pattern, text, re.DOTALL)


_DEVICE = r"(?:cpu|meta|(?:cuda|mps|xpu)(?::\d+)?)"
_GPU_TYPE, _CPU_TYPE = r"torch\.cuda\.\w+", r"torch\.\w+"
_SIZE = r"[\d.]+ \w+"
_BUILDS = "https://pytorch.org/get-started/locally/"
_RESTART = "Then restart the kernel: this process cannot use the GPU any more."


def _convolution(first: str, second: str, where: str, elsewhere: str, fix: str) -> Known:
    """Return the error of a convolution, which compares types where others compare devices."""
    return Known(
        rf"Input type \({first}\) and (?P<argument>\w+) type \({second}\) should be the same",
        f"A convolution got its input on {where} and its {{argument}} on {elsewhere}. The message speaks of "
        "types, but torch.cuda.FloatTensor is only an old name for: float32, on a GPU.",
        fix,
        mix=True,
    )


DEVICES = [
    Known(
        rf"but got (?P<argument>\w+) is on (?P<device>{_DEVICE}), different from other tensors on "
        rf"(?P<others>{_DEVICE}) \(when checking argument in method (?P<method>\w+)\)",
        "One operation got tensors on two devices: {argument}{meaning} on {device}, others on {others}.",
        "{cure}",
        mix=True,
    ),
    Known(
        rf"found at least two devices, (?P<device>{_DEVICE}) and (?P<others>{_DEVICE})!"
        r"(?: \(when checking argument for argument (?P<argument>\w+) in method (?P<method>\w+)\))?",
        "One operation got tensors on two devices, {device} and {others}{which}.",
        mix=True,
    ),
    _convolution(_GPU_TYPE, _CPU_TYPE, "a GPU", "the CPU", "Move the model: model.to(device)."),
    _convolution(_CPU_TYPE, _GPU_TYPE, "the CPU", "a GPU", "Move the input: images = images.to(device)."),
    Known(
        rf"Input and (?P<argument>\w+) tensors are not at the same device, found input tensor at "
        rf"(?P<device>{_DEVICE}) and \w+ tensor at (?P<others>{_DEVICE})",
        "An RNN, LSTM or GRU got its input on {device} and its {argument} on {others}.",
        mix=True,
    ),
    Known(
        rf"indices should be either on .* the same device as the indexed tensor \((?P<others>{_DEVICE})\)",
        "A tensor on {others} was indexed with a tensor on another device.",
        "Move the index: x[index.to(x.device)]. A CPU index into a GPU tensor would be allowed.",
        mix=True,
    ),
    Known(
        rf"got mask on (?P<device>{_DEVICE}) and self on (?P<others>{_DEVICE})",
        "The mask is on {device}, the tensor it masks on {others}.",
        "Make the mask where the tensor is: mask = mask.to(x.device).",
        mix=True,
    ),
    Known(
        rf"invalid gradient at index \d+ - expected device (?P<others>{_DEVICE}) but got "
        rf"(?P<device>{_DEVICE})|"
        r"attempting to assign a gradient (?:with device|located on)",
        "A gradient and its tensor are on two devices.",
        "Make the gradient where the tensor is: gradient.to(tensor.device).",
        mix=True,
    ),
    Known(
        rf"module must have its parameters and buffers on device (?P<others>{_DEVICE}) \(device_ids\[0\]\) "
        rf"but found one of them on device: (?P<device>{_DEVICE})",
        "DataParallel copies the module from {others}, but part of it is on {device}.",
        'Move the module before you wrap it: nn.DataParallel(model.to("{others}")).',
        mix=True,
    ),
    Known(
        r"(?:Gather|Broadcast) function not implemented for CPU tensors",
        "DataParallel met a CPU tensor where it needs GPU tensors.",
        "Move the module to the first GPU before you wrap it, and let forward return GPU tensors.",
    ),
    Known(
        r"Expected a '(?P<others>\w+)' device type for generator but found '(?P<device>\w+)'",
        "Random numbers for {others} were asked of a generator for {device}.",
        'Make the generator for that device: torch.Generator(device="{others}").',
    ),
    Known(  # the words of older versions, and of operations that check by hand
        r"same (?:GPU )?device|Expected object of (?:device type|backend)|must be on the current device|"
        r"(?:is|are) on (?:CPU|GPU), but expected|expected device \S+ but got device|"
        r"to have device \S+, but got|"
        r"Device, but got tensor with|is not on the expected device",
        "One operation got tensors on two devices.",
        mix=True,
    ),
    Known(
        rf"can't convert (?:(?P<device>{_DEVICE}) device type|CUDA) tensor to numpy",
        "NumPy works in the computer's own memory and cannot see a tensor of a GPU.",
        "Copy it first: x.cpu().numpy(), or x.detach().cpu().numpy() for a tensor with gradients.",
    ),
    Known(
        r"cannot pin|[Oo]nly dense CPU tensors can be pinned",
        "Pinning is for tensors in the computer's own memory; this one is on the GPU already.",
        "Pin before the copy: x.pin_memory().to(device, non_blocking=True). Or leave pinning out.",
    ),
]

MACHINE = [
    Known(
        rf"out of memory\. Tried to allocate (?:more than )?(?P<asked>\d[\d.]* ?\w+)(?:\. "
        rf"GPU (?P<gpu>\d+) has a total capacity of (?P<total>{_SIZE}) "
        rf".*?(?:(?P<allowed>{_SIZE}) allowed; )?Of the allocated memory (?P<held>{_SIZE}) is allocated by "
        rf"PyTorch, (?:.*, )?and (?P<cached>{_SIZE}) is reserved)?|"
        r"CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED",
        "The GPU has no room left{room}.",
        "Take a smaller batch. Or free tensors: del their names, and leave the except block, since an error "
        "in hand keeps all tensors of the functions it came through. Else restart the kernel.{cache}",
    ),
    Known(
        r"invalid device ordinal|Invalid device id|CUDA device \d+ but torch\.cuda\.device_count\(\)",
        "The code names a GPU that this machine does not have.",
        "GPUs count from 0; torch.cuda.device_count() tells how many there are; --nproc-per-node may not be "
        'more. For a file: torch.load(path, map_location="cpu").',
    ),
    Known(
        r"deserialize object on a CUDA device but torch\.cuda\.is_available\(\) is False",
        "The file was saved on a GPU, and PyTorch finds none here.",
        'Say where it shall go: torch.load(path, map_location="cpu").',
    ),
    Known(
        r"not compiled with CUDA enabled",
        "This PyTorch was built without CUDA: it cannot use an NVIDIA GPU, even if there is one.",
        f"With such a GPU, install a build with CUDA: {_BUILDS} Without one, use the device that is there.",
    ),
    Known(
        r"Found no NVIDIA driver",
        "This PyTorch could use an NVIDIA GPU, but it finds no driver for one.",
        "In Colab: Runtime, Change runtime type, a GPU. On a machine of yours with such a GPU: its driver.",
    ),
    Known(
        r"driver on your system is too old(?: \(found version (?P<version>\d+)\))?|"
        r"driver version is insufficient",
        "The NVIDIA driver is too old for this build of PyTorch{supports}.",
        f"Update the driver, or install a PyTorch build for an older CUDA: {_BUILDS}",
    ),
    Known(
        r"no kernel image is available",
        "This build of PyTorch has no code for your GPU: the card is too old or too new for it.",
        "Compare torch.cuda.get_device_capability() with torch.cuda.get_arch_list(). "
        f"Other builds: {_BUILDS}",
    ),
    Known(
        r"Cannot re-initialize CUDA in forked subprocess",
        "A process that had used the GPU was copied (forked), and the copy cannot use it.",
        "Let datasets and DataLoader workers return CPU tensors, and move each batch in the training loop.",
    ),
    Known(
        r"device-side assert triggered",
        "A GPU computation met an index outside its range, most often a label outside 0 to classes - 1. "
        "It is reported late, so your line may be innocent.",
        f"Run one batch on the CPU, where the error names the value. {_RESTART}",
    ),
    Known(
        r"illegal memory access|unspecified launch failure|misaligned address",
        "A GPU computation read or wrote where it must not. "
        "It is reported late, so your line may be innocent.",
        f"Run once with the environment variable CUDA_LAUNCH_BLOCKING=1 to find the line. {_RESTART}",
    ),
]

TRAINING = [
    Known(
        r"Target (?P<label>-?\d+) is out of bounds",
        "A label is {label}: outside the classes that the model has outputs for.",
        "Labels go from 0 to classes - 1. Look at labels.min(), labels.max(), and the last layer's size.",
    ),
    Known(
        r"Input type \(\S+\) and \w+ type \(\S+\) should be the same|(?:must|to) have the same dtype",
        "Two number types met, as float16 and float32. The devices are the same.",
        "Convert the input, as in x = x.float(), or let torch.autocast choose the types.",
    ),
    Known(
        r"Expected more than 1 value per channel when training",
        "BatchNorm in training mode got one sample only, which has no spread to measure.",
        "Training: DataLoader(..., drop_last=True). One sample at a time: model.eval(). With DataParallel "
        "each GPU needs two.",
    ),
    Known(
        r"'DataParallel' object has no attribute '(?P<name>\w+)'",
        "DataParallel is a wrapper; the attributes of your model are one step further in.",
        "Write model.module.{name}.",
    ),
    Known(
        r'Unexpected key\(s\) in state_dict: "module\.',
        "The checkpoint is from a model inside DataParallel: each of its names starts with 'module.'.",
        "torch.nn.modules.utils.consume_prefix_in_state_dict_if_present(state, 'module.') cuts that off, in "
        "place. Next time save model.module.state_dict().",
    ),
    Known(
        r'Missing key\(s\) in state_dict: "module\.',
        "The model is inside DataParallel, the checkpoint is from a bare model.",
        "Load into the model itself: model.module.load_state_dict(state).",
    ),
    Known(
        r"Weights only load failed",
        "The file holds Python objects; since PyTorch 2.6 torch.load takes only tensors and plain data.",
        "Save model.state_dict() and plain numbers. weights_only=False is for files you trust: it runs code.",
    ),
]

KNOWN = [*DEVICES, *MACHINE, *TRAINING]
