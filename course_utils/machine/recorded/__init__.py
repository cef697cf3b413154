"""What real GPUs measured: one JSON file per card in this folder, written by `tools/record.py`."""

from .reader import CASES, SCHEMA, Record, records

__all__ = ["CASES", "SCHEMA", "Record", "records"]
