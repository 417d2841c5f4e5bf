"""Which GPUs there are: the catalogue of GPU types, and pools discovered from nodes."""
