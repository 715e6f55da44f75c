"""Why a score is what it is: the changes of images that it survives, its groups, the faults of a run."""
