"""The loop and what it is made of: steps, schedules, checkpoints, guards, threads."""
