"""What the judges of the exercises try an answer on: pretended machines, counted copies, planted bugs."""
