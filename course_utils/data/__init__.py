"""The pictures the course trains on: real CIFAR-10, a folder of pictures, or an announced stand-in."""

from .load import data_folder, load_cifar10

__all__ = ["data_folder", "load_cifar10"]
