"""What authors use; `python tools/authors --help` lists the commands."""
