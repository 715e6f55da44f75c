"""Comparison of runs on the same samples: intervals, paired tests, costs."""
