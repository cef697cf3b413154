"""The pictures the course trains on: real CIFAR-10, a folder of pictures, or an announced stand-in."""

from .load import load_cifar10

__all__ = ["load_cifar10"]
