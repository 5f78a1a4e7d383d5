"""Which chapter an experiment belongs to, and which runs its tables are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from ctrlib.errors import RecordError, unknown
from ctrlib.lab.headline import EXPERIMENT as HEADLINE
from ctrlib.lab.records import Record, frame, load_records
from ctrlib.lab.search import SEARCH, chosen_strength, results


@dataclass(frozen=True)
class Experiment:
    """chapter: its file's name. headline: whether its tables also hold cells of the experiment qnn-alpha.

    recorded: whether it leaves run records; the others compute all they show.
    """

    chapter: str
    headline: bool = False
    recorded: bool = True


EXPERIMENTS = {
    "activation": Experiment("01_activation"),
    "boundaries": Experiment("02_boundaries", recorded=False),
    "khatri-rao": Experiment("03_khatri_rao", headline=True),
    "self-ensemble": Experiment("04_self_ensemble", headline=True),
    "qnn-alpha": Experiment("05_qnn_alpha"),
    "plug-and-play": Experiment("06_plug_and_play", headline=True),
    "second-network": Experiment("07_second_network", headline=True),
    "speed": Experiment("16_speed", recorded=False),
}


def experiment_records(name: str, dataset: str | None = None) -> list[Record]:
    """Return the records that an experiment's tables are made of, its search runs among them."""
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    records = load_records(name, dataset)
    if EXPERIMENTS[name].headline:
        records += [r for r in load_records(HEADLINE, dataset) if not r["label"].startswith(SEARCH)]
    return records


def experiment_runs(name: str, dataset: str, records: list[Record] | None = None) -> pd.DataFrame:
    """Return the frame of an experiment's result runs on one data set, one run for each cell and seed.

    records: what `experiment_records` gave, to save reading it again. The runs of the first experiment are those at
    the L2 strength that its search chose.
    """
    runs = frame(experiment_records(name, dataset) if records is None else records)
    if runs.empty:
        return runs
    if name == "activation":
        return results(runs, dataset, embedding_regularizer=chosen_strength(runs, dataset))
    return _of_one_kind(results(runs, dataset))


def _of_one_kind(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs; raise `RecordError` when a label was run with several settings, protocols or data versions."""
    names = ["model", "fingerprint", *(c for c in runs.columns if c.startswith(("settings.", "protocol.")))]
    varied = runs.groupby("label")[names].nunique().gt(1)  # a setting that older records lack is no difference
    for label, row in varied[varied.any(axis=1)].iterrows():
        raise RecordError(
            f"The runs of '{label}' differ in {', '.join(row.index[row])}. Move those that are not wanted away, or "
            "give them a label of their own."
        )
    return runs


def measured_on(name: str, runs: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return those data sets of `runs` (data set -> its runs) on which the experiment has runs of its own."""
    return [data for data, part in runs.items() if not part.empty and (part["experiment"] == name).any()]
