"""The run folder: the interface through which training, evaluation, reports and prediction meet.

A run folder is valid or absent: it is created under a temporary name with its config inside, then renamed. `Run` reads
it, `RunWriter` writes it, `records` defines the content of the files, and `codec` converts records to JSON and back.
"""

from opsin.runs.dataset import dataset_of
from opsin.runs.folder import Run
from opsin.runs.log import Log
from opsin.runs.names import RUNS_FOLDER, free_path, list_runs, next_name
from opsin.runs.reader import read_extra, read_gallery
from opsin.runs.records import (
    AugmentedScores,
    DataCard,
    Environment,
    Epoch,
    Event,
    SplitCard,
    SplitScores,
    Summary,
    Timing,
    WithoutCopies,
)
from opsin.runs.writer import RunWriter

__all__ = [
    "RUNS_FOLDER",
    "AugmentedScores",
    "DataCard",
    "Environment",
    "Epoch",
    "Event",
    "Log",
    "Run",
    "RunWriter",
    "SplitCard",
    "SplitScores",
    "Summary",
    "Timing",
    "WithoutCopies",
    "dataset_of",
    "free_path",
    "list_runs",
    "next_name",
    "read_extra",
    "read_gallery",
]
