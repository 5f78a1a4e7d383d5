"""The settings in which a chapter studies QNN-alpha and its hybrids on a data set.

Where the authors publish a run log, its settings; elsewhere those that a recorded search found on validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctrlib.errors import RecordError
from ctrlib.lab.grid import Cell, Grid
from ctrlib.lab.search import best_search, search_grid, searched
from ctrlib.lab.tables import papers_table
from ctrlib.models.base import checked
from ctrlib.models.qnn_alpha import QNNAlphaSettings
from ctrlib.train import Protocol

EXPERIMENT = "qnn-alpha"
NAME = "QNN-alpha"
LOGS = {"frappe_x1": "Frappe", "frappe_x1-rebuilt": "Frappe"}  # data set -> its name in data/papers
STRENGTHS = (1e-4, 1e-3, 1e-2, 5e-2)
CHOICES: dict[str, Sequence[Any]] = {
    "layers": (1, 2, 3),
    "rows": (1, 2, 4, 8, 13),
    "batch_norm": (True, False),
    "embedding_regularizer": STRENGTHS,
}
SEARCHED = {NAME: ("QNN-alpha", {"heads": 1, "dropout": 0.1})}


@dataclass(frozen=True)
class Headline:
    """settings: the model's. protocol: how it is trained. source: where both come from, in words."""

    settings: dict[str, Any]
    protocol: Protocol
    source: str


def headline_search(dataset: str) -> Grid:
    """Return the search for QNN-alpha's settings on a data set without a published log; else an empty grid."""
    if dataset in LOGS:
        return Grid(EXPERIMENT)
    return search_grid(EXPERIMENT, dataset, SEARCHED, {NAME: CHOICES}, Protocol.named("qnn", dataset))


def headline(dataset: str) -> Headline:
    """Return QNN-alpha's settings on a data set. Raises `RecordError` without a log and a whole search."""
    if dataset in LOGS:
        return logged(dataset, NAME)
    record = best_search(searched(headline_search(dataset)), NAME, dataset)
    return Headline(dict(record["settings"]), Protocol(**record["protocol"]), "a search on validation rows")


def variants(default: Headline, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Cell]:
    """Return a cell for every label: QNN-alpha at its chosen settings with the changes of that label.

    A label whose changes change nothing is left out: its runs are those of QNN-alpha itself. Raises `SettingError`
    for a setting that QNN-alpha does not have.
    """
    unchanged = checked(QNNAlphaSettings, NAME, default.settings)
    changed = {label: {**default.settings, **change} for label, change in changes.items()}
    return {
        label: (NAME, settings)
        for label, settings in changed.items()
        if checked(QNNAlphaSettings, NAME, settings) != unchanged
    }


def logged(dataset: str, model: str) -> Headline:
    """Return the settings of QNN-alpha or of a hybrid in the authors' log, but the CIN's widths.

    Raises `RecordError` unless `data/papers/qnn_alpha_runs.csv` has one log of the model on the data set.
    """
    table, told = papers_table("qnn_alpha_runs"), LOGS.get(dataset, dataset)
    rows = table[(table["dataset"] == told) & (table["model"] == model)]
    if len(rows) != 1:
        raise RecordError(f"data/papers/qnn_alpha_runs.csv has {len(rows)} logs of {model} on {told}, not one.")
    log = rows.iloc[0].dropna()
    counts = [name for name in ("layers", "rows", "heads", "cross_layers", "embedding_dim") if name in log]
    settings: dict[str, Any] = {name: int(log[name]) for name in counts}
    settings |= {"batch_norm": bool(log["batch_norm"]), "dropout": 0.1}
    changes = {name: int(log[name]) for name in ("batch_size", "min_count", "embedding_dim")}
    protocol = Protocol.named("qnn", dataset, embedding_regularizer=float(log["embedding_regularizer"]), **changes)
    return Headline(settings, protocol, "the authors' log")
