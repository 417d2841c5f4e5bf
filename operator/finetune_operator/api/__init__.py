"""What a user may say. Read: group, fields, spec, pools, plan, status, reasons; then rules, validation, crd."""
