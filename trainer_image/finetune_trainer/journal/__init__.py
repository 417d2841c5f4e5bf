"""What a Pod leaves of itself beside the checkpoints: its log and the history of its metrics.

Reading order: parts.py (files on this machine), transcript.py (what is printed gets into them), keeper.py (they get to the store),
stored.py (they are read again).
"""
