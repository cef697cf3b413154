"""A folder that goes to the front of a child Python's PYTHONPATH."""
