"""What several trials try an answer on: pretended machines and ranks, counted copies, GPUs for everybody."""
