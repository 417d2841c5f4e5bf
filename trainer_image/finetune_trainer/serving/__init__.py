"""A published result brought to where it is used, asked in a terminal, or served by llama.cpp. No GPU is needed."""
