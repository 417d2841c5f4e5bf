"""`make demo`: a local cluster, the operator, a real fine-tune of a real model, and a check of the result."""
