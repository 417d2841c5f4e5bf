"""What next (pure). Read: observation, record, policies, decide."""
