"""Load on a real control plane with simulated nodes, and what it costs: run by bench_operator and bench-peers."""
