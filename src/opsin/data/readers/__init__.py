"""Readers, one file per layout: from files to an undivided pool of samples or to named splits."""
