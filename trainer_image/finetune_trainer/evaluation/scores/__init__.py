"""Scores of one row from 0 to 1, by type of metric."""
