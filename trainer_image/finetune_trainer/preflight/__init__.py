"""Preflight: examine model, data and destinations before a GPU is asked for. No GPU, no torch.

Reading order: __main__.py (in and out), examine.py (the order of things), then model.py, adapter.py, claim.py.
"""
