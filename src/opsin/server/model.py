"""A model that is served, and replaced when its run was trained again.

Files are watched, not messages: whoever writes the artefact need not know of the server. A new network is loaded and
proved beside the old one, which answers meanwhile; what cannot be loaded leaves the old one in place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from opsin.artifact import Stamps, file_stamps, opened
from opsin.errors import OpsinError
from opsin.explanation.quick import Explainer
from opsin.inference.predictor import Predictor
from opsin.progress import QUIET, Reporter
from opsin.server.batching import WAIT_S, Batcher

POLL_S = 1.0
"""Seconds between two looks at the files of the models."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A loaded network. A request keeps the one that it began with."""

    predictor: Predictor
    explainer: Explainer
    loaded: datetime

    @classmethod
    def load(cls, folder: Path, device: torch.device | str) -> Network:
        """The network of an artefact, proved by its golden images.

        Raises:
            ArtifactError: it is damaged, or incomplete.
        """
        artifact = opened(folder, device=device)
        return cls(
            predictor=Predictor(artifact, device=device), explainer=Explainer(artifact), loaded=datetime.now(UTC)
        )


class Model:
    """A served model: its network, and the thread that owns it.

    Args:
        name: selects it in a request.
        folder: its artefact.
        device: device of the network.
        wait_s, observe: as in `Batcher`.

    Raises:
        ArtifactError: the artefact is damaged, or incomplete.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        wait_s: float = WAIT_S,
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.name, self.folder, self._device = name, folder, device
        self._served = self._seen = self._refused = file_stamps(folder)
        self.network = Network.load(folder, device)
        self.num_reloads = self.num_failed_reloads = 0
        self.problem: str | None = None
        """Why the files that are there now are not served."""
        self.batcher = Batcher(wait_s=wait_s, observe=observe)

    def refresh(self, report: Reporter = QUIET) -> None:
        """Load the network again if its files have changed, and have not changed since the last look.

        An artefact that is being written or copied changes from look to look; one that cannot be loaded is reported,
        and tried again once it changes.
        """
        stamps = file_stamps(self.folder)
        settled, self._seen = stamps == self._seen, stamps
        if stamps == self._served:
            self.problem = None
        elif settled and stamps != self._refused:
            self._reload(stamps, report)

    def _reload(self, stamps: Stamps, report: Reporter) -> None:
        try:
            network = Network.load(self.folder, self._device)
        except Exception as error:  # whatever it is, the old network goes on answering
            self._refused = stamps
            self.num_failed_reloads += 1
            self.problem = error.what if isinstance(error, OpsinError) else type(error).__name__
            report.message(f"{self.name}: its files have changed, but the old network goes on answering: {error}")
            return
        if file_stamps(self.folder) != stamps:
            return  # changed while it was read: the next look tries again
        self.network, self._served, self.problem = network, stamps, None
        self.num_reloads += 1
        report.message(f"{self.name}: its files have changed; the new network answers from now on")

    def status(self) -> dict[str, object]:
        """As plain JSON: since when this network answers, how often it was replaced, what is wrong with its files."""
        loaded = self.network.loaded.isoformat(timespec="seconds")
        return {"loaded": loaded, "reloads": self.num_reloads, "problem": self.problem}


class Watch:
    """Refreshes models in a thread of its own, until stopped."""

    def __init__(self, models: Iterable[Model], *, poll_s: float = POLL_S, report: Reporter = QUIET) -> None:
        self._models, self._poll_s, self._report = tuple(models), poll_s, report
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="opsin-reload", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; a network that is being loaded is loaded to its end."""
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopped.wait(self._poll_s):
            for model in self._models:
                model.refresh(self._report)
