"""Runs of other chapters made again with matrix products in bf16, to see whether they score the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pandas as pd

from ctrlib.errors import unknown
from ctrlib.lab.grid import Grid
from ctrlib.lab.headline import EXPERIMENT as HEADLINE
from ctrlib.lab.headline import NAME, headline
from ctrlib.lab.overall import system_run
from ctrlib.lab.records import frame, load_records
from ctrlib.lab.run import Run
from ctrlib.lab.stats import MARGIN
from ctrlib.lab.tables import paired_table

EXPERIMENT = "speed"
COMPARED = ("DNN", "DCNv2", NAME)
ENDING = ".bf16"
TRIAL = ".no-dropout"  # in the labels of the first runs, at the settings of the measured epochs


def exact_run(dataset: str, name: str, seed: int) -> Run:
    """Return the run in fp32 as its chapter makes it: QNN-alpha's headline, else that of the overall table.

    Raises `SettingError` for a system that is not in `COMPARED`.
    """
    if name not in COMPARED:
        raise unknown("system that is trained in both precisions", name, COMPARED)
    if name != NAME:
        return system_run(dataset, name, seed)
    chosen = headline(dataset)
    return Grid(HEADLINE).add(dataset, {NAME: (NAME, chosen.settings)}, chosen.protocol, [seed]).runs[0]


def coarse_run(exact: Run) -> Run:
    """Return the same run with matrix products in bf16, under a label and an experiment of its own."""
    protocol = exact.protocol.replace(precision="bf16")
    return dataclasses.replace(exact, experiment=EXPERIMENT, label=exact.label + ENDING, protocol=protocol, keep=False)


def precision_grid(dataset: str, seeds: Iterable[int] = range(1, 11)) -> Grid:
    """Return both runs of every system, seed by seed."""
    exact = [exact_run(dataset, name, seed) for seed in seeds for name in COMPARED]
    return Grid(EXPERIMENT, [run for one in exact for run in (one, coarse_run(one))])


def both_precisions(dataset: str) -> pd.DataFrame:
    """Return the recorded runs of both precisions, one label for each system and precision."""
    wanted = {(EXPERIMENT, name + ENDING) for name in COMPARED}
    wanted |= {(exact_run(dataset, name, 1).experiment, name) for name in COMPARED}
    experiments = sorted({experiment for experiment, _ in wanted})
    records = [r for name in experiments for r in load_records(name, dataset) if (name, r["label"]) in wanted]
    return frame(records)


def trials(dataset: str) -> pd.DataFrame:
    """Return the first runs in both precisions, without dropout: system, seed, test AUC in percent in either."""
    found = frame([r for r in load_records(EXPERIMENT, dataset) if TRIAL in r["label"]])
    if found.empty:
        return found
    ends = found["label"].str.endswith(ENDING).map({False: "AUC % in fp32", True: "AUC % in bf16"})
    rows = found.assign(system=found["model"], precision=ends, auc=100 * found["test_auc"])
    table = rows.pivot(index=["system", "seed"], columns="precision", values="auc")
    return table.reindex(columns=["AUC % in fp32", "AUC % in bf16"]).reset_index().rename_axis(columns=None)


def equality(runs: pd.DataFrame) -> pd.DataFrame:
    """Return for each system AUC in bf16 less AUC in fp32, paired by seed, as `paired_table` does, and `equal`.

    equal: whether the interval stays within the margin on both sides. Systems without a pair are left out.
    """
    found = paired_table(runs, {name: (name + ENDING, name) for name in COMPARED})
    found = found[found["seeds"] > 0]
    return found.assign(equal=(found["low"] >= -MARGIN) & (found["high"] <= MARGIN))
