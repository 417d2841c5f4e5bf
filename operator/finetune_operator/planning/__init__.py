"""How much memory a run needs, which GPUs it gets, how long it takes and what it costs. Pure arithmetic.

Rooms: `models/` (what a model is), `memory/` (what a run needs of a GPU), `speed/` (how long it takes), `pools/` (which GPUs
there are). In the root, in the order of a plan: defaults, layouts, host, candidate, search, methods, report, refusal, planner.
"""
