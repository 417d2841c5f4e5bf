"""How long a step and a run take."""
