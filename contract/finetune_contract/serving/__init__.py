"""Published results as objects that serve them: printed by the command line, published by the trainer. Pure. Part of contract."""
