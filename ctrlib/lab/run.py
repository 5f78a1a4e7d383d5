"""What one run is: an experiment's cell, a protocol and a seed."""

from __future__ import annotations

import dataclasses
import json
import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrlib.errors import SettingError, unknown
from ctrlib.lab.records import digest
from ctrlib.models import MODELS
from ctrlib.models.base import checked
from ctrlib.train import Protocol

PLAIN = re.compile(r"[^./\\][^/\\]*")  # a name of a file or folder
SPLIT_SEED = 2024  # of every run whose split its seed does not decide
VARIED = {  # what a run's seed decides -> whether it decides initial values, batches and dropout, the split
    "seed": (True, True, False),
    "initial": (True, False, False),
    "order": (False, True, False),
    "split": (False, False, True),
    "all": (True, True, True),
}


@dataclass(frozen=True)
class Run:
    """One run of one experiment.

    label: the cell of the table that it belongs to. settings: the model's. rows: training rows to keep, None for
    all. parents: the runs whose weights a stage starts from, in order. keep: leave the weights behind, for stages that
    start from them and for what is measured on the trained network. vary: what the seed decides, a name in `VARIED`; by
    default initial values, batches and dropout, on one split. What it does not decide is that of seed 0.
    """

    experiment: str
    dataset: str
    label: str
    model: str
    settings: dict[str, Any]
    protocol: Protocol
    seed: int
    rows: int | None = None
    parents: tuple[Run, ...] = ()
    keep: bool = False
    vary: str = "seed"

    def __post_init__(self) -> None:
        for name in ("experiment", "dataset", "label"):
            if not PLAIN.fullmatch(getattr(self, name)):
                raise SettingError(f"The {name} {getattr(self, name)!r} names a folder: no slashes, no dot in front.")
        object.__setattr__(self, "seed", operator.index(self.seed))  # numpy's, too, as JSON can hold it
        if self.vary not in VARIED:
            raise unknown("kind of variation", self.vary, VARIED)
        if self.vary != "seed" and (self.parents or self.keep):
            raise SettingError(f"A run that varies the {self.vary} is no stage and leaves no weights: {self.label}.")
        if any(getattr(p, n) != getattr(self, n) for p in self.parents for n in ("dataset", "rows", "seed")):
            raise SettingError(f"A stage and the runs it starts from share data set, rows and seed: {self.label}.")

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the run's numbers depend on, except the code."""
        values = {name: getattr(self, name) for name in ("dataset", "model", "seed", "rows")}
        cells = _none_one_or_all(p.path.parent for p in self.parents)  # without their seed, which is this one's
        values |= {"vary": self.vary} if self.vary != "seed" else {}
        return values | {"parent": cells, "settings": self.changed_settings, "protocol": self.protocol.changes()}

    @property
    def seeds(self) -> tuple[int, int, int]:
        """The seeds of initial values, of batches and dropout, and of the split."""
        initial, order, split = VARIED[self.vary]
        return self.seed * initial, self.seed * order, self.seed if split else SPLIT_SEED

    @property
    def parent(self) -> Run | None:
        """The first run that this one starts from: the only one of most stages."""
        return self.parents[0] if self.parents else None

    @property
    def parent_path(self) -> str | list[str] | None:
        """Path of the parent's record under the records folder; a list for several parents."""
        return _none_one_or_all(parent.path for parent in self.parents)

    def smaller(self, rows: int | None, max_epochs: int) -> Run:
        """Return this run, and those that it starts from, on fewer training rows and epochs."""
        parents = tuple(parent.smaller(rows, max_epochs) for parent in self.parents)
        protocol = self.protocol.replace(max_epochs=max_epochs)
        return dataclasses.replace(self, rows=rows, protocol=protocol, parents=parents)

    @property
    def lineage(self) -> list[Run]:
        """The runs that have to be made before this one, in order, and the run itself."""
        before = {run.path: run for parent in self.parents for run in parent.lineage}  # two may share a parent
        return [*before.values(), self]

    @property
    def generation(self) -> int:
        """1 for a run that starts from none, else one more than its parents' highest."""
        return 1 + max((parent.generation for parent in self.parents), default=0)

    @property
    def full_settings(self) -> dict[str, Any]:
        """The model's settings with every default filled in."""
        return _plain(dataclasses.asdict(checked(MODELS[self.model].settings, self.model, self.settings)))

    @property
    def default_settings(self) -> dict[str, Any]:
        """The model's settings as they are where a run names none."""
        return _plain(dataclasses.asdict(MODELS[self.model].settings()))

    @property
    def changed_settings(self) -> dict[str, Any]:
        """The model's settings that differ from the defaults."""
        defaults = self.default_settings
        return {name: value for name, value in self.full_settings.items() if value != defaults[name]}

    @property
    def path(self) -> Path:
        """Path of the record under the records folder: EXPERIMENT/DATASET/SETTINGS/seed-N.json.

        SETTINGS is the label and a digest of what differs from the defaults, so that a new setting with a
        default that changes nothing leaves the paths as they are.
        """
        settings = {name: value for name, value in self.identity.items() if name != "seed"}
        folder = f"{self.label.replace(':', '-')}-{digest(settings)}"
        return Path(self.experiment, self.dataset, folder, f"seed-{self.seed}.json")


def _none_one_or_all(paths: Iterable[Path]) -> str | list[str] | None:
    """Return no path as None, one as a string, several as a list."""
    found = [path.as_posix() for path in paths]
    return (found[0] if len(found) == 1 else found) if found else None


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values as a record holds them, with lists in place of tuples."""
    return dict(json.loads(json.dumps(values)))
