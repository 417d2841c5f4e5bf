"""A training step on fake tensors: what memory it takes, on a machine without a GPU."""
