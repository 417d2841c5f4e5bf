"""Tasks of lm-eval from a folder of one's own: read without running anything, checked in words, written beside the prepared rows.

Reading order: files.py (which YAML file), settings.py (what it may say), datasets.py (its data), prepared.py (all of it, for a run).
"""
