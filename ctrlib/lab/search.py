"""Settings chosen on validation, never on test."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from ctrlib.errors import RecordError, SettingError
from ctrlib.lab.grid import Cell, Grid
from ctrlib.lab.records import Record, note_read, read_record
from ctrlib.paths import records_dir
from ctrlib.train import Protocol

SEARCH = "search:"  # labels of search runs begin so; no result table shows them


def search_table(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return validation AUC by value of `column` (rows) and searched cell (columns), with their mean.

    Takes the frame of `ctrlib.lab.records.frame`. Rows are ordered from the best mean down; a value for which
    one of the cells has no completed run has no mean and comes last.
    """
    runs = frame[frame["label"].str.startswith(SEARCH) & (frame["status"] == "completed")]
    if runs.empty:
        raise RecordError("No search run is recorded. Run the experiment first: ctrlib run activation.")
    table = runs.pivot_table(index=column, columns="label", values="valid_auc", aggfunc="mean")
    table.columns = [str(label).removeprefix(SEARCH) for label in table.columns]
    table["mean"] = table.mean(axis=1, skipna=False)
    return table.sort_values("mean", ascending=False, na_position="last")


def chosen_strength(frame: pd.DataFrame, dataset: str) -> float:
    """Return the L2 strength of the embedding table that the recorded search on `dataset` puts first."""
    table = search_table(frame[frame["dataset"] == dataset], "protocol.embedding_regularizer")
    return float(table.index[0])


def results(frame: pd.DataFrame, dataset: str, **settings: object) -> pd.DataFrame:
    """Return the runs of one data set that are no search runs and have the given values.

    Names in `settings` are columns without their prefix "protocol.", for example embedding_regularizer=0.01.
    """
    keep = (frame["dataset"] == dataset) & ~frame["label"].str.startswith(SEARCH)
    for name, value in settings.items():
        keep &= frame[f"protocol.{name}"] == value
    return frame[keep]


def draw_settings(choices: Mapping[str, Sequence[Any]], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return `count` different settings drawn at random from the product of `choices`, the same for one seed.

    Raises `SettingError` when the product holds fewer.
    """
    combinations = list(itertools.product(*choices.values()))
    if count > len(combinations):
        raise SettingError(f"{count} settings asked for, but the choices allow {len(combinations)}. Add choices.")
    drawn = np.random.default_rng(seed).choice(len(combinations), size=count, replace=False)
    return [dict(zip(choices, combinations[number], strict=True)) for number in drawn]


def search_grid(
    experiment: str,
    dataset: str,
    systems: Mapping[str, Cell],
    choices: Mapping[str, Mapping[str, Sequence[Any]]],
    protocol: Protocol,
    count: int = 12,
) -> Grid:
    """Return the search of each system: `count` random settings from its choices, one run each, with seed 0.

    systems: name -> model and the settings that are not searched. A name among the choices is a setting of the
    protocol where the protocol has it, else of the model. No result uses seed 0.
    """
    of_protocol = {f.name for f in fields(Protocol)}
    grid = Grid(experiment)
    for name, (model, settings) in systems.items():
        for drawn in draw_settings(choices[name], count):
            changes = {key: value for key, value in drawn.items() if key in of_protocol}
            own = {key: value for key, value in drawn.items() if key not in of_protocol}
            cell = {SEARCH + name: (model, {**settings, **own})}
            grid.add(dataset, cell, protocol.replace(**changes), [0])
    return grid


def searched(grid: Grid) -> list[Record]:
    """Return the records of a search, in its order. Raises `RecordError` unless all its runs are recorded."""
    note_read(grid.experiment)
    paths = [records_dir() / run.path for run in grid.runs]
    if missing := [path for path in paths if not path.exists()]:
        raise RecordError(
            f"{len(missing)} of {len(paths)} runs of this search are not recorded, for example {missing[0]}. "
            f"Make them: ctrlib run {grid.experiment}."
        )
    return [read_record(path) for path in paths]


def best_search(records: Iterable[Record], name: str, dataset: str) -> Record:
    """Return the search record of a system on a data set with the highest validation AUC."""
    of_system = [r for r in records if r["label"] == SEARCH + name and r["dataset"] == dataset]
    found = [r for r in of_system if r["status"] == "completed"]
    if not found:
        raise RecordError(f"No completed search run of {name} on {dataset} is at hand.")
    return max(found, key=lambda record: float(record["valid"]["auc"]))
