"""What machine this is: the doctor, the GPUs' state, timing, and what real GPUs have measured."""
