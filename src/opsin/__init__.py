"""Opsin: from images to a convolutional network that is trained, measured, understood and put to use.

    data = opsin.load("digits")
    run = opsin.train(data, epochs=5)
    run.scores["val"]["accuracy"]

Importing this package imports neither torch nor anything else that is heavy: names are loaded when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from opsin import collector
from opsin.openmp import set_waiting

__version__ = "0.2.0"

if TYPE_CHECKING:
    from opsin import labs as labs
    from opsin import models as models
    from opsin.api.deployment import export as export
    from opsin.api.deployment import push as push
    from opsin.api.deployment import serve as serve
    from opsin.api.training import dry_run as dry_run
    from opsin.api.training import train as train
    from opsin.api.verbs import compare as compare
    from opsin.api.verbs import convert as convert
    from opsin.api.verbs import ensemble as ensemble
    from opsin.api.verbs import explain as explain
    from opsin.api.verbs import filter_image as filter_image
    from opsin.api.verbs import plan as plan
    from opsin.api.verbs import predict as predict
    from opsin.batches.batch import Batch as Batch
    from opsin.cleaning.clean import clean as clean
    from opsin.data.load import Dataset as Dataset
    from opsin.data.load import load as load
    from opsin.data.quality.audit import audit as audit
    from opsin.diagnosis.doctor import diagnose as diagnose
    from opsin.diagnosis.groups import scores_by as scores_by
    from opsin.diagnosis.robustness import robustness as robustness
    from opsin.errors import AnnotationError as AnnotationError
    from opsin.errors import ArchiveError as ArchiveError
    from opsin.errors import ArrayError as ArrayError
    from opsin.errors import ArtifactError as ArtifactError
    from opsin.errors import CheckFailedError as CheckFailedError
    from opsin.errors import ConfigError as ConfigError
    from opsin.errors import DataError as DataError
    from opsin.errors import DivergedError as DivergedError
    from opsin.errors import DownloadError as DownloadError
    from opsin.errors import FollowerError as FollowerError
    from opsin.errors import GroupError as GroupError
    from opsin.errors import ImageError as ImageError
    from opsin.errors import InputError as InputError
    from opsin.errors import InterruptedRunError as InterruptedRunError
    from opsin.errors import NameTakenError as NameTakenError
    from opsin.errors import OpsinError as OpsinError
    from opsin.errors import PreflightError as PreflightError
    from opsin.errors import RefusedError as RefusedError
    from opsin.errors import RunError as RunError
    from opsin.errors import SealedSplitError as SealedSplitError
    from opsin.errors import TensorFileError as TensorFileError
    from opsin.errors import WriteError as WriteError
    from opsin.evaluation import evaluate as evaluate
    from opsin.inference.predictor import Predictor as Predictor
    from opsin.models.building import register_model as register_model
    from opsin.models.own import register_module as register_module
    from opsin.planning.bench import bench_conv as bench_conv
    from opsin.report import write_report as write_report
    from opsin.runs import Run as Run
    from opsin.runs import dataset_of as dataset_of
    from opsin.runs import list_runs as list_runs
    from opsin.studies.ablation import ablate as ablate
    from opsin.studies.cross_validation import cross_validate as cross_validate
    from opsin.studies.lr_finder import find_lr as find_lr
    from opsin.studies.normalization import compare_normalizations as compare_normalizations
    from opsin.studies.tuning import tune as tune
    from opsin.training.engine.hooks import Callback as Callback
    from opsin.training.engine.hooks import EpochContext as EpochContext
    from opsin.training.engine.hooks import EventContext as EventContext
    from opsin.training.engine.hooks import StepContext as StepContext
    from opsin.types import Prediction as Prediction
    from opsin.types import Score as Score

_ERRORS = (
    "AnnotationError",
    "ArchiveError",
    "ArrayError",
    "ArtifactError",
    "CheckFailedError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "DownloadError",
    "FollowerError",
    "GroupError",
    "ImageError",
    "InputError",
    "InterruptedRunError",
    "NameTakenError",
    "OpsinError",
    "PreflightError",
    "RefusedError",
    "RunError",
    "SealedSplitError",
    "TensorFileError",
    "WriteError",
)
_HOME = {
    "Batch": "opsin.batches.batch",
    "Callback": "opsin.training.engine.hooks",
    "Dataset": "opsin.data.load",
    "EpochContext": "opsin.training.engine.hooks",
    "EventContext": "opsin.training.engine.hooks",
    "Prediction": "opsin.types",
    "Predictor": "opsin.inference.predictor",
    "Run": "opsin.runs",
    "Score": "opsin.types",
    "StepContext": "opsin.training.engine.hooks",
    "ablate": "opsin.studies.ablation",
    "audit": "opsin.data.quality.audit",
    "bench_conv": "opsin.planning.bench",
    "clean": "opsin.cleaning.clean",
    "compare": "opsin.api.verbs",
    "compare_normalizations": "opsin.studies.normalization",
    "convert": "opsin.api.verbs",
    "cross_validate": "opsin.studies.cross_validation",
    "dataset_of": "opsin.runs",
    "diagnose": "opsin.diagnosis.doctor",
    "dry_run": "opsin.api.training",
    "ensemble": "opsin.api.verbs",
    "evaluate": "opsin.evaluation",
    "explain": "opsin.api.verbs",
    "export": "opsin.api.deployment",
    "filter_image": "opsin.api.verbs",
    "find_lr": "opsin.studies.lr_finder",
    "list_runs": "opsin.runs",
    "load": "opsin.data.load",
    "plan": "opsin.api.verbs",
    "predict": "opsin.api.verbs",
    "push": "opsin.api.deployment",
    "register_model": "opsin.models.building",
    "register_module": "opsin.models.own",
    "robustness": "opsin.diagnosis.robustness",
    "scores_by": "opsin.diagnosis.groups",
    "serve": "opsin.api.deployment",
    "train": "opsin.api.training",
    "tune": "opsin.studies.tuning",
    "write_report": "opsin.report",
} | dict.fromkeys(_ERRORS, "opsin.errors")
"""Where each public name lives."""

_MODULES = ("labs", "models")

__all__ = [*sorted([*_HOME, *_MODULES])]


def __getattr__(name: str) -> Any:
    if name not in _HOME and name not in _MODULES:
        raise AttributeError(f"module 'opsin' has no attribute '{name}'")
    set_waiting()  # the modules import torch, which asks once
    with collector.at_rest():
        module = import_module(f"opsin.{name}" if name in _MODULES else _HOME[name])
    return module if name in _MODULES else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_MODULES])
