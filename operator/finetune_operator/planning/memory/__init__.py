"""How much memory a training step takes: one file for each kind of term, summed at each moment in `estimate`."""
