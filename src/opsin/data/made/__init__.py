"""Data sets that the code makes from scikit-learn's digits."""
