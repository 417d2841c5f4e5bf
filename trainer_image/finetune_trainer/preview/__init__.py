"""Preview: what the model will see, for people. `python -m finetune_trainer preview` prints it; preflight stores it."""
