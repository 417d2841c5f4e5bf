"""Several adapters of one base model as one adapter: averaged, added, or merged by TIES or DARE. Needs no base model and no GPU."""
