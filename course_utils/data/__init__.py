"""The pictures the course trains on: real CIFAR-10, a folder of pictures, or an announced stand-in."""

from .download import DownloadError
from .load import load_cifar10

__all__ = ["DownloadError", "load_cifar10"]
