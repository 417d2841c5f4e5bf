"""How answers are judged: pure functions over texts and numbers, for preflight (are the references usable?) and training.

Reading order: questions.py (what is asked), scores/ (one row), intervals.py (what a mean over rows says), results.py (both models).
"""
