"""Cleaning of labels: suspects, their page, verdicts, a new table."""
