"""Every system of both papers on one data set: which settings it has, its runs, and which of them can be told apart.

Where the open benchmark has a leaderboard all systems have its settings, their authors', or ours where neither has any.
Elsewhere the eight of `tuned_systems` were searched with twelve settings each, and the rest keep those settings but for
the L2 strength of the table, which five runs choose on validation. ECKD is the listed DNN taught by three of our runs,
without a search of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import pandas as pd

from ctrlib import eckd
from ctrlib.errors import unknown
from ctrlib.lab import dual_stream
from ctrlib.lab.dual_stream import Tuned, base_protocol, student, teacher_run, tuned
from ctrlib.lab.grid import Grid
from ctrlib.lab.leaderboard import DATASETS as LISTED
from ctrlib.lab.leaderboard import FRAPPE
from ctrlib.lab.run import Run
from ctrlib.lab.search import SEARCH, best_search, searched
from ctrlib.lab.stats import ALPHA, holm, paired
from ctrlib.lab.tables import by_seed
from ctrlib.train import Protocol

EXPERIMENT = "overall"
SYSTEMS = (*FRAPPE, dual_stream.NAME, eckd.NAME)
ECKD_TEACHERS = ("AutoInt+", "DCNv2", "xDeepFM")  # the DS-MLP paper, 4.1.4
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 5e-2)


def tuned_systems(dataset: str) -> list[str]:
    """Return the systems that the chapters on DS-MLP run on a data set; their runs are used here too."""
    return [*dual_stream.systems(dataset), dual_stream.NAME]


def origin_of_settings(dataset: str, name: str) -> str:
    """Return where a system's settings on a data set come from: search, or board, authors or ours, perhaps with an L2.

    "board, L2 searched" are the leaderboard's, but for the L2 strength of the table.
    """
    if name not in SYSTEMS:
        raise unknown("system", name, SYSTEMS)
    if name == eckd.NAME:
        return "ours"
    source = FRAPPE[name].source if name in FRAPPE else "authors"
    if dataset in LISTED:
        return source
    return "search" if name in tuned_systems(dataset) else f"{source}, L2 searched"


def strength_search(dataset: str, names: Iterable[str] | None = None) -> Grid:
    """Return the runs that choose the L2 strength of the systems without a search of their own, seed 0.

    On a data set with a leaderboard it is empty.
    """
    grid = Grid(EXPERIMENT)
    if dataset in LISTED:
        return grid
    without = _untuned(dataset)
    for name in without if names is None else names:
        if name not in without:
            raise unknown("system without a search", name, without)
        for strength in STRENGTHS:
            grid.runs.append(_run(dataset, SEARCH + name, _listed(dataset, name, strength), 0))
    return grid


def _untuned(dataset: str) -> list[str]:
    return [name for name in FRAPPE if name not in tuned_systems(dataset)]


def _listed(dataset: str, name: str, strength: float | None = None) -> Tuned:
    found = FRAPPE[name]
    protocol = base_protocol(dataset).replace(embedding_regularizer=found.strength if strength is None else strength)
    return Tuned(found.model, {"embedding_dim": protocol.embedding_dim, **found.settings}, protocol)


def _run(dataset: str, label: str, found: Tuned, seed: int) -> Run:
    return Run(EXPERIMENT, dataset, label, found.model, found.settings, found.protocol, seed)


def system_run(dataset: str, name: str, seed: int) -> Run:
    """Return the run of a system with a seed. Raises `RecordError` where a search is needed and not recorded."""
    if name not in SYSTEMS:
        raise unknown("system", name, SYSTEMS)
    if name == dual_stream.NAME:
        return student(dataset).align(name, seed)
    if name == eckd.NAME:
        return _eckd_run(dataset, seed)
    if name in tuned_systems(dataset):
        return teacher_run(dataset, name, seed)
    if dataset in LISTED:
        return _run(dataset, name, _listed(dataset, name), seed)
    record = best_search(searched(strength_search(dataset, [name])), name, dataset)
    return _run(dataset, name, Tuned(record["model"], record["settings"], Protocol(**record["protocol"])), seed)


def _eckd_run(dataset: str, seed: int) -> Run:
    """Return ECKD with that seed's runs of its teachers; its L2 strength is the DNN's, or the searched MLP's."""
    parents = tuple(teacher_run(dataset, name, seed) for name in ECKD_TEACHERS)
    strength = None if dataset in LISTED else tuned(dataset, "MLP").protocol.embedding_regularizer
    plain = _listed(dataset, "DNN", strength)
    settings = plain.settings | {"teachers": tuple((run.model, run.settings) for run in parents)}
    return Run(EXPERIMENT, dataset, eckd.NAME, eckd.NAME, settings, plain.protocol, seed, parents=parents)


def overall_grid(dataset: str, seeds: Iterable[int] = range(1, 6), names: Sequence[str] = SYSTEMS) -> Grid:
    """Return the runs of the overall table, seed by seed. The search has to be recorded where one is needed."""
    return Grid(EXPERIMENT, [system_run(dataset, name, seed) for seed in seeds for name in names])


def results_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Return those runs of `experiment_runs` that the overall table shows: one label for each system."""
    return runs[runs["label"].isin(SYSTEMS)] if len(runs) else runs


def told_apart(runs: pd.DataFrame, metric: str = "test_auc") -> pd.DataFrame:
    """Return for each pair of systems whether they can be told apart, paired by seed and adjusted over all pairs.

    Columns: left (the better one over the seeds that both have), right, difference, seeds, p_holm, apart. With fewer
    than four common seeds there is no test, and no pair is told apart.
    """
    values = by_seed(runs, metric).T
    pairs = list(itertools.combinations(ranked(runs, metric), 2))
    found = [paired(values[first], values[second]) for first, second in pairs]
    rows = []
    for pair, one, p in zip(pairs, found, holm([one.p for one in found]), strict=True):
        # Means over all seeds of each, which make the ranking, can be the other way round.
        swapped = one.value * (-1 if metric.endswith("logloss") else 1) < 0
        left, right = reversed(pair) if swapped else pair
        row = {"left": left, "right": right, "difference": -one.value if swapped else one.value, "seeds": one.n}
        rows.append(row | {"p_holm": p, "apart": p is not None and p < ALPHA})
    return pd.DataFrame(rows, columns=["left", "right", "difference", "seeds", "p_holm", "apart"])


def ranked(runs: pd.DataFrame, metric: str = "test_auc") -> list[str]:
    """Return the systems in order of their mean, the best first."""
    higher = not metric.endswith("logloss")
    return [str(name) for name in by_seed(runs, metric).mean(axis=1).sort_values(ascending=not higher).index]


def frontier(points: pd.DataFrame, cost: str, score: str = "test_auc") -> list[str]:
    """Return the labels of the rows that none beats in both columns: a lower cost, a higher score. The cheapest first.

    Of equal rows the first counts. Rows without either value are left out.
    """
    found, best = [], float("-inf")
    for row in points.dropna(subset=[cost, score]).sort_values([cost, score], ascending=[True, False]).itertuples():
        if getattr(row, score) > best:
            best = getattr(row, score)
            found.append(str(row.label))
    return found


def groups(runs: pd.DataFrame, metric: str = "test_auc") -> list[tuple[str, str]]:
    """Return the longest stretches of the ranking in which no two systems are told apart, as (best, worst).

    Stretches can overlap; none lies within another; a system that is told apart from both neighbours is one of its own.
    """
    order = ranked(runs, metric)
    place = {name: k for k, name in enumerate(order)}
    table = told_apart(runs, metric).query("apart")
    pairs = zip(table["left"].map(place), table["right"].map(place), strict=True)
    apart = {(min(pair), max(pair)) for pair in pairs}
    found: list[tuple[int, int]] = []
    for first in range(len(order)):
        last = first
        while last + 1 < len(order) and not any((k, last + 1) in apart for k in range(first, last + 1)):
            last += 1
        if not found or last > found[-1][1]:
            found.append((first, last))
    return [(order[first], order[last]) for first, last in found]
