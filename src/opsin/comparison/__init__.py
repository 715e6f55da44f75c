"""Run against run, on the same samples: intervals, paired tests, costs."""
