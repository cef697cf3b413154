"""What lessons draw: the map of the machine, timelines, roofline and ladder, in one style."""
