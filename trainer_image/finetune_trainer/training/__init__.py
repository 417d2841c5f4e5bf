"""The training run: settings, the loop, evaluation, the order of rows."""
