"""What a model is made of: layers, parameters and adapters, read from its config.json or the catalogue."""
