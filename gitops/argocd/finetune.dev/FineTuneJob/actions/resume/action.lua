-- The operator starts an attempt that continues from the newest checkpoint.
obj.spec.suspend = false
return obj
