"""The exact words of CUDA's errors, as PyTorch 2.11 to 2.15 prints them."""

import warnings
from typing import NoReturn

import torch

_2_11 = torch.__version__.startswith("2.11.")
_ASYNC = (
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below "
    "might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
)
_DSA = "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n" if _2_11 else ""
_INVALID_DEVICE = (
    "CUDA error: invalid device ordinal\nGPU device may be out of range, do you have enough GPUs?\n"
    + (_ASYNC + _DSA if _2_11 else "")
)
_DEVICE_ASSERT = (
    "CUDA error: device-side assert triggered\nSearch for `cudaErrorAssert' in "
    "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information.\n"
    + _ASYNC
    + _DSA
)
FORKED = (
    "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the "
    "'spawn' start method"
)
NUMPY = (
    "can't convert {device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
    "memory first."
)
TWO_DEVICES = "Expected all tensors to be on the same device, but found at least two devices, {} and {}!"
OTHER_DEVICE = (
    "Expected all tensors to be on the same device, but got {} is on {}, different from other tensors on {} "
    "(when checking argument in method {})"
)
INVALID_GRADIENT = "invalid gradient at index {} - expected device {} but got {}"
OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate {wanted}. GPU {index} has a total capacity of {total} of which "
    "{free} is free. Including non-PyTorch memory, this process has {held} memory in use. {allowed}Of the "
    "allocated memory {allocated} is allocated by PyTorch, and {cached} is reserved by PyTorch but "
    "unallocated. If reserved but unallocated memory is large try setting "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for Memory "
    "Management  (https://docs.pytorch.org/docs/stable/notes/cuda.html"
    "#optimizing-memory-usage-with-pytorch-cuda-alloc-conf)"
)
INDICES = "indices should be either on cpu or on the same device as the indexed tensor ({})"


def refuse(text: str) -> NoReturn:
    """Raise the error that a real GPU raises here."""
    raise RuntimeError(text)


def alert_any_order(name: str) -> None:
    """Refuse an operation without a fixed order, or warn, as `torch.use_deterministic_algorithms` asks."""
    asked = "True, warn_only=True" if torch.is_deterministic_algorithms_warn_only_enabled() else "True"
    text = (
        f"{name} does not have a deterministic implementation, but you set "
        f"'torch.use_deterministic_algorithms({asked})'. You can "
    )
    if "warn" not in asked:
        refuse(
            f"{text}turn off determinism just for this operation, or you can use the 'warn_only=True' "
            "option, if that's acceptable for your application. You can also file an issue at "
            "https://github.com/pytorch/pytorch/issues to help us prioritize adding deterministic support "
            "for this operation."
        )
    warnings.warn(
        f"{text}file an issue at https://github.com/pytorch/pytorch/issues to help us prioritize adding "
        "deterministic support for this operation.",
        stacklevel=2,
    )


def misplaced_gradient(gradient: torch.device, tensor: torch.device) -> str:
    """Text for `tensor.grad = gradient` across devices (PyTorch prints the bare index as a character)."""
    if gradient.type != tensor.type:
        return (
            f"attempting to assign a gradient with device type '{gradient.type}' to a tensor with device "
            f"type '{tensor.type}'. Please ensure that the gradient and the tensor are on the same device"
        )
    return (
        f"attempting to assign a gradient located on device with index '{chr(gradient.index)}' to a tensor "
        f"located on device with index '{chr(tensor.index)}'. Please ensure that the gradient and the tensor "
        "are on the same device"
    )


def invalid_device() -> torch.AcceleratorError:
    """Return the error for a device index that does not exist (cudaErrorInvalidDevice, 101)."""
    return _accelerator_error(_INVALID_DEVICE, 101)


def device_assert() -> torch.AcceleratorError:
    """Return the error of a kernel that found an index out of range (cudaErrorAssert, 710)."""
    return _accelerator_error(_DEVICE_ASSERT, 710)


def _accelerator_error(text: str, code: int) -> torch.AcceleratorError:
    error = torch.AcceleratorError(text)
    error.error_code = code
    return error


def format_size(nbytes: int) -> str:
    """Write a number of bytes as CUDA's allocator does (c10 `format_size`)."""
    for limit, unit in ((1024, "bytes"), (2**20, "KiB"), (2**30, "MiB")):
        if nbytes <= limit:
            return f"{nbytes} bytes" if unit == "bytes" else f"{nbytes * 1024 / limit:.2f} {unit}"
    return f"{nbytes / 2**30:.2f} GiB"
