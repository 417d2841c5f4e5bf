"""Checkpoints: resumable states of training, and who may write them."""
