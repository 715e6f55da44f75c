"""Training: from data to a run folder."""

from opsin.training.session import train

__all__ = ["train"]
