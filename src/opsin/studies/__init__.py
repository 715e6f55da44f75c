"""Studies: questions that take many runs. Search, ablation, cross-validation."""
