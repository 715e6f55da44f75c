"""A queue of commands that are run one after the other, or beside each other within limits of cores and memory."""
