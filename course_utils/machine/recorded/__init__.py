"""What real GPUs measured: one JSON file per card in this folder, by `python tools/authors record`."""

from .reader import CASES, SCHEMA, Record, records

__all__ = ["CASES", "SCHEMA", "Record", "records"]
