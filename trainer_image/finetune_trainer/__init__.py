"""The trainer: what runs inside the Pods. Start reading at contract, then preflight and train."""
