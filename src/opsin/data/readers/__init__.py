"""Readers, one file a layout: from a publisher's files to a pool of samples or to named splits."""
