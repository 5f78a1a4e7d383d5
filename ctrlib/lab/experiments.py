"""Which chapter an experiment belongs to, and which runs its tables are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ctrlib.errors import RecordError, unknown
from ctrlib.lab.headline import EXPERIMENT as HEADLINE
from ctrlib.lab.records import Record, frame, load_records
from ctrlib.lab.run import VARIED
from ctrlib.lab.search import SEARCH, chosen_strength, results
from ctrlib.lab.streams import columns, stored


@dataclass(frozen=True)
class Experiment:
    """chapter: its file's name. shares: other experiments whose cells its tables also hold.

    recorded: whether it leaves run records; the others compute all they show, or measure what other experiments left.
    """

    chapter: str
    shares: tuple[str, ...] = ()
    recorded: bool = True


EXPERIMENTS = {
    "activation": Experiment("01_activation"),
    "boundaries": Experiment("02_boundaries", recorded=False),
    "khatri-rao": Experiment("03_khatri_rao", shares=(HEADLINE,)),
    "self-ensemble": Experiment("04_self_ensemble", shares=(HEADLINE,)),
    "qnn-alpha": Experiment("05_qnn_alpha"),
    "plug-and-play": Experiment("06_plug_and_play", shares=(HEADLINE,)),
    "second-network": Experiment("07_second_network", shares=(HEADLINE,)),
    "distil": Experiment("08_distil", shares=("teachers",)),
    "align": Experiment("09_align", shares=("distil", "teachers")),
    "teachers": Experiment("10_teachers", shares=("align", "distil")),
    "fidelity": Experiment("11_fidelity", shares=("align", "distil", "teachers"), recorded=False),
    "case-study": Experiment("12_case_study", shares=("align", "distil", "teachers"), recorded=False),
    "scaling": Experiment("13_scaling", shares=("align", "distil", "teachers")),
    "overall": Experiment("14_overall", shares=("align", "distil", "teachers")),
    "noise-floor": Experiment("15_noise_floor"),
    "speed": Experiment("16_speed"),
    "your-data": Experiment("17_your_data", recorded=False),
}


def experiment_named(name: str) -> str:
    """Return the experiment that a person names by itself, by its chapter or by the chapter's number.

    "qnn-alpha", "05_qnn_alpha", "chapters/05_qnn_alpha.py", "05" and "5" are one. Raises `SettingError` for any other.
    """
    if name in EXPERIMENTS:
        return name
    chapter = Path(name).name.removesuffix(".py").removesuffix(".ipynb")
    for experiment, about in EXPERIMENTS.items():
        number = about.chapter.split("_")[0]
        if chapter in (about.chapter, number, str(int(number))):
            return experiment
    raise unknown("experiment", name, EXPERIMENTS)


def experiment_records(name: str, dataset: str | None = None) -> list[Record]:
    """Return the records that an experiment's tables are made of, its search runs among them."""
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    records = load_records(name, dataset)
    for other in EXPERIMENTS[name].shares:
        records += [r for r in load_records(other, dataset) if not r["label"].startswith(SEARCH)]
    return records


def experiment_runs(
    name: str, dataset: str, records: list[Record] | None = None, *, measured: bool = True
) -> pd.DataFrame:
    """Return the frame of an experiment's result runs on one data set, one run for each cell and seed.

    records: what `experiment_records` gave, to save reading it again. measured: join what was measured on the recorded
    networks. The runs of the first experiment are those at the L2 strength that its search chose.
    """
    runs = frame(experiment_records(name, dataset) if records is None else records)
    if runs.empty:
        return runs
    if name == "activation":
        return results(runs, dataset, embedding_regularizer=chosen_strength(runs, dataset))
    found = _of_one_kind(results(runs, dataset))
    return _with_measurements(found, dataset) if measured else found


def _with_measurements(runs: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Return the runs with what was measured on their networks (`ctrlib.lab.streams`), where anything was."""
    measured = columns(stored(dataset))
    return runs if measured.empty else runs.merge(measured, on=["experiment", "label", "seed"], how="left")


def _of_one_kind(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs; raise `RecordError` when a label was run with several settings, protocols or data versions.

    Runs whose seed decides the split differ in the data by intent.
    """
    names = ["model", "fingerprint", *(c for c in runs.columns if c.startswith(("settings.", "protocol.")))]
    one_split = ~runs["vary"].map({name: split for name, (*_, split) in VARIED.items()}).astype(bool)
    compared = runs.assign(fingerprint=runs["fingerprint"].where(one_split))
    varied = compared.groupby("label")[names].nunique().gt(1)  # what a record lacks is no difference
    for label, row in varied[varied.any(axis=1)].iterrows():
        raise RecordError(
            f"The runs of '{label}' differ in {', '.join(row.index[row])}. Move those that are not wanted away, or "
            "give them a label of their own."
        )
    return runs


def measured_on(name: str, runs: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return those data sets of `runs` (data set -> its runs) on which the experiment has runs of its own."""
    return [data for data, part in runs.items() if not part.empty and (part["experiment"] == name).any()]
