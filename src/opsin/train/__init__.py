"""Training: from data to a run folder."""

from opsin.train.session import train

__all__ = ["train"]
