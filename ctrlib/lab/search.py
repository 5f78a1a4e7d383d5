"""A setting chosen on validation, never on test."""

from __future__ import annotations

import pandas as pd

from ctrlib.errors import RecordError

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
