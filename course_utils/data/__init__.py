"""The pictures the course trains on, real or an announced stand-in; how the course writes files."""
