"""Tasks of lm-eval as metrics: what is asked and answered (asked.py), and the library behind it (library.py, the only one to import it)."""
