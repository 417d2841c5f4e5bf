"""The page of `finetune serve-ui` and the JSON that it asks for. It calls what the commands call: no arithmetic is written twice."""
