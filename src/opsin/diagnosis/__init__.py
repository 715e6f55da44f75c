"""Diagnosis of a score: robustness to image changes, scores by group, and the faults of a run."""
