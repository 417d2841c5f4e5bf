"""The processes of a Pod: torchrun and its supervision, one worker per GPU, and the verdict that both report."""
