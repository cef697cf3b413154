"""The pictures the course trains on: real CIFAR-10, a folder of pictures, or an announced stand-in."""
