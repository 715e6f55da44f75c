"""The studio: a local web app over data sets and run folders, for people who never open a terminal.

Pages are rendered here, by Jinja; htmx swaps parts of them, and one script drives the camera and files. What a page
shows comes from files: the run folder is the interface here too, so that a training is seen wherever it was started.
"""
