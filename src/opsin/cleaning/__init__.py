"""Wrong labels, found and put right: suspects, a page of them, verdicts, a new table."""
