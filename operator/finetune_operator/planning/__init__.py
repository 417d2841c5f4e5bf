"""How much memory, how many GPUs, how long, how dear: pure arithmetic, no Kubernetes words, no torch.

Read: architecture, families (what a model is), vram (what a run needs of a card), layouts (how it can be spread),
throughput, duration, cost (how long, how dear), host (what a Pod needs beside), methods, planner (what is chosen).
"""
