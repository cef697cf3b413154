"""Starting: what `python3 -m course_utils` does in a clone."""
