-- The operator saves a checkpoint, then frees the GPUs.
obj.spec.suspend = true
return obj
