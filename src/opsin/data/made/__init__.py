"""Data sets generated from scikit-learn's digits."""
