"""Training scripts that run by themselves: plain PyTorch, nothing of this package."""
