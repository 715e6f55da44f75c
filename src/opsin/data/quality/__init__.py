"""What is wrong with a data set: copies, boxes and masks that cannot be, unreadable files."""
