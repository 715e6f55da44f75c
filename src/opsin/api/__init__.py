"""The verbs of the Python API, one function each. The command line calls these and prints what they return."""
