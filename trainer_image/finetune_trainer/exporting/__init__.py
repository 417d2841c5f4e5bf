"""Further forms of a published result: merged into its base model, and as GGUF. Runs without a GPU and trains nothing.

Reading order: command (configuration in, outcome out), export (which forms, checked, published), trained (a model that
is published here), merge, agreement, gguf.
"""
