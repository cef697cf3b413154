"""What lessons draw: the map of the machine, timelines, roofline, ladder. And a walk over nested objects."""
