"""Data quality: copies, invalid boxes and masks, unreadable files."""
