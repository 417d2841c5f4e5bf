"""Loading the base model and its adapter."""
