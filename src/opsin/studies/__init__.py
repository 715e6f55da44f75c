"""Studies over many runs: search, ablation, cross-validation, ensembles."""
