"""All that the pages of one studio share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from starlette.requests import Request

from opsin.server.refusal import RequestError
from opsin.studio.jobs import Jobs
from opsin.studio.labelled import place_of, why_not_labelled
from opsin.studio.runs import RunShelf
from opsin.studio.sets import DataSets

if TYPE_CHECKING:
    from opsin.artifact import Artifact
    from opsin.explanation.quick import Explainer
    from opsin.inference.predictor import Predictor
    from opsin.studio.annotations import Annotations
    from opsin.studio.uploads import Gathering

KEPT_NETWORKS = 3
"""Networks that stay in memory."""
CANNOT_BE_LABELLED = "these pictures cannot be labelled here"
FOLDER_OF_PHOTOS = "open the studio with a folder of photos, or copy one into it"


@dataclass(eq=False)
class Answerer:
    """A network that is asked by one page at a time."""

    predictor: Predictor
    explainer: Explainer
    lock: Lock = field(default_factory=Lock)

    @property
    def artifact(self) -> Artifact:
        """Network, classes and preprocessing contract."""
        return self.predictor.artifact


class Studio:
    """Data sets, runs, jobs, networks in memory.

    Args:
        data: catalogue names and paths that are shown beside the embedded sets.
        runs: folder of runs.
        folder: where uploads and the outputs of jobs lie.
        labs: folder of labs.
        root: where catalogue sets lie.
    """

    def __init__(
        self,
        *,
        data: Sequence[str] = (),
        runs: Path = Path("runs"),
        folder: Path = Path("studio"),
        labs: Path = Path("labs"),
        root: str | None = None,
    ) -> None:
        self.folder, self.labs, self.root = folder, labs, root
        self.sets = DataSets(data, folder / "data", root, corrected=folder / "corrected")
        self.runs = RunShelf(runs)
        self.jobs = Jobs(folder / "jobs")
        self.gathered: dict[str, Gathering] = {}
        self.lock = Lock()
        self._annotations: dict[str, Annotations] = {}
        self._networks: OrderedDict[tuple[str, int], Answerer] = OrderedDict()
        self._lock = Lock()

    def answerer(self, name: str) -> Answerer:
        """The network of a run, proved by its golden images; the least lately asked one is let go.

        Raises:
            RequestError: 404, there is no such run, or it has no network yet.
            ArtifactError: it was altered.
        """
        folder = self.runs.get(name).model_folder
        try:
            stamp = (folder / "manifest.json").stat().st_mtime_ns
        except OSError as error:
            raise RequestError(404, "this run has no network yet", got=name) from error
        from opsin.artifact import opened  # here, because the first page should not wait for torch
        from opsin.explanation.quick import Explainer
        from opsin.inference.predictor import Predictor

        with self._lock:
            if (name, stamp) not in self._networks:
                artifact = opened(folder)
                self._networks[name, stamp] = Answerer(Predictor(artifact), Explainer(artifact))
                while len(self._networks) > KEPT_NETWORKS:
                    self._networks.popitem(last=False)
            self._networks.move_to_end((name, stamp))
            return self._networks[name, stamp]

    def annotations(self, key: str) -> Annotations:
        """What is said of the photos of a data set that is a folder of the user's, or was uploaded.

        Raises:
            RequestError: 404, there is no such set, or it is no folder of photos, or one with annotations in it.
        """
        photos = self.sets.get(key).photos
        if photos is None:
            raise RequestError(404, CANNOT_BE_LABELLED, got=key[:100], do=FOLDER_OF_PHOTOS)
        with self._lock:
            if key not in self._annotations:
                if why := why_not_labelled(photos):
                    raise RequestError(404, CANNOT_BE_LABELLED, where=key[:100], got=why, do=FOLDER_OF_PHOTOS)
                from opsin.studio.annotations import Annotations  # here, as the first page should not wait for torch

                self._annotations[key] = Annotations(place_of(photos))
            return self._annotations[key]

    def has_network(self, name: str) -> bool:
        """Whether a run can be asked."""
        return (self.runs.get(name).model_folder / "manifest.json").is_file()


def studio_of(request: Request) -> Studio:
    """The studio that a request is for."""
    found: Studio = request.app.state.studio
    return found
