"""Plan to Kubernetes objects: pure, a new dict every time. Read names, labels, run_config, pod, preflight, children."""
