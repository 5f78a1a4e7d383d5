"""How much one run can tell: spread by its causes, wrong winners, and the seeds that a difference needs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats as distributions

from ctrlib.data import DATASETS
from ctrlib.errors import SettingError
from ctrlib.lab.dual_stream import tuned
from ctrlib.lab.grid import Grid
from ctrlib.lab.headline import NAME, headline
from ctrlib.lab.run import VARIED
from ctrlib.lab.stats import ALPHA, smallest_difference
from ctrlib.lab.tables import papers_table
from ctrlib.train import Protocol

EXPERIMENT = "noise-floor"
SYSTEMS = ("MLP", "DCNv2", NAME)
MOST_SEEDS = 10_000


def noise_grid(dataset: str, values: Iterable[int] = range(1, 11), *, rows: int | None = None) -> Grid:
    """Return runs of three tuned systems in which only one thing at a time changes: label "SYSTEM.CAUSE".

    values: the seeds. A published split cannot be varied, so such data sets have no cells for it. The systems' settings
    are those of the chapters on them; `RecordError` where a search for them is not recorded.
    """
    grid = Grid(EXPERIMENT)
    causes = [vary for vary, (_, _, split) in VARIED.items() if DATASETS[dataset].random_split or not split]
    for seed in values:
        for name in SYSTEMS:
            model, settings, protocol = _system(dataset, name)
            for vary in causes:
                grid.add(dataset, {f"{name}.{vary}": (model, settings)}, protocol, [seed], rows, vary=vary)
    return grid


def _system(dataset: str, name: str) -> tuple[str, dict[str, object], Protocol]:
    if name == NAME:
        found = headline(dataset)
        return NAME, found.settings, found.protocol
    chosen = tuned(dataset, name)
    return chosen.model, chosen.settings, chosen.protocol


def spread(values: pd.DataFrame) -> pd.DataFrame:
    """Return mean, standard deviation and its 95 % interval for each row of an (I, S) frame.

    Columns: n, mean, sd, low, high (the interval of the sd, from the chi-square distribution), least, most. Rows with
    fewer than two values are left out.
    """
    rows = {}
    for label, row in values.iterrows():
        x = row.dropna().to_numpy(dtype=np.float64)
        if len(x) < 2:
            continue
        degrees, sd = len(x) - 1, float(x.std(ddof=1))
        low, high = (
            sd * math.sqrt(degrees / float(distributions.chi2.ppf(p, degrees))) for p in (1 - ALPHA / 2, ALPHA / 2)
        )
        rows[label] = {
            "n": len(x),
            "mean": x.mean(),
            "sd": sd,
            "low": low,
            "high": high,
            "least": x.min(),
            "most": x.max(),
        }
    columns = ["n", "mean", "sd", "low", "high", "least", "most"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("label")


def wrong_winners(values: pd.DataFrame, min_seeds: int = 4) -> pd.DataFrame:
    """Return for each pair of rows of an (I, S) frame, and one run of each, whether these two name the wrong winner.

    Columns: left, right, paired (both runs have the same seed), gap (the difference of the means over the seeds that
    are not looked at, which tell the right winner; never negative), wrong (1, or 0, or one half for a tie). There are
    S x S rows for a pair. Pairs with fewer common seeds than `min_seeds` are left out.
    """
    parts = []
    for one, other in itertools.combinations(values.index, 2):
        a_S, b_S = values.loc[[one, other]].dropna(axis=1).to_numpy(dtype=np.float64)
        if (count := len(a_S)) < min_seeds:
            continue
        seen_SS = a_S[:, None] - b_S[None, :]
        rest_SS = (a_S.sum() - b_S.sum() - seen_SS) / (count - 1)
        part = {"paired": np.eye(count, dtype=bool), "gap": abs(rest_SS), "wrong": _wrong(seen_SS, rest_SS)}
        columns = {name: x.ravel() for name, x in part.items()}
        parts.append(pd.DataFrame({"left": one, "right": other} | columns))
    if not parts:
        return pd.DataFrame(columns=["left", "right", "paired", "gap", "wrong"])
    return pd.concat(parts, ignore_index=True)


def _wrong(seen: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return 1 where the signs differ, 0 where they agree, one half where either is 0."""
    return np.asarray((1 - np.sign(seen) * np.sign(truth)) / 2)


def seeds_needed(difference: float, sd: float, power: float = 0.8) -> float:
    """Return the fewest seeds on which a paired t test finds a true difference with probability `power`.

    difference, sd: of the paired differences, in one unit. Infinite where 10,000 are too few. Raises `SettingError`
    for a difference of 0.
    """
    if not difference or sd < 0:
        raise SettingError(
            f"The difference is {difference}, its sd {sd}; give a difference other than 0 and an sd >= 0."
        )
    if smallest_difference(sd, MOST_SEEDS, power) > abs(difference):
        return math.inf
    low, high = 1, MOST_SEEDS  # low is too few, high is enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if smallest_difference(sd, middle, power) > abs(difference) else (low, middle)
    return high


PROPOSED = {"QNN-alpha": "qnn_table3", "DS-MLP": "dsmlp_table4"}  # method -> its paper's overall table
PUBLIC = {"Criteo": "criteo_x1", "Avazu": "avazu_x1", "MovieLens": "movielenslatest_x1", "Frappe": "frappe_x1"}


def margins() -> pd.DataFrame:
    """Return by how much the two papers' methods lead the best other row of their overall tables.

    Columns: method, data, best_other, gain (AUC, a fraction), logloss_gain (nats, positive is better), sd (pooled over
    the open benchmark's systems of five seeds on that data, NaN where it has none), systems (how many those are).
    """
    return pd.DataFrame([row for method, table in PROPOSED.items() for row in _margins(method, _scores(table))])


def _scores(table: str) -> pd.DataFrame:
    """Return an overall table with the columns model, dataset, auc, logloss."""
    found = papers_table(table)
    if "metric" in found:
        found = found.pivot(index=["model", "dataset"], columns="metric", values="value").reset_index()
        found = found[found["model"] != "Abs.Imp"].assign(auc=lambda rows: rows["auc_pct"] / 100)
    return found[["model", "dataset", "auc", "logloss"]].dropna(subset="auc")


def _margins(method: str, scores: pd.DataFrame) -> list[dict[str, object]]:
    public = papers_table("bars_seed_spread")
    rows: list[dict[str, object]] = []
    for data, part in scores.groupby("dataset", sort=False):
        own = part[part["model"] == method].iloc[0]
        others = part[part["model"] != method]
        best = others.sort_values("auc").iloc[-1]
        known = public[public["dataset"] == PUBLIC.get(str(data), "")]
        rows.append(
            {
                "method": method,
                "data": data,
                "best_other": best["model"],
                "gain": own["auc"] - best["auc"],
                "logloss_gain": others["logloss"].min() - own["logloss"],
                "sd": math.sqrt((known["sd_auc"] ** 2).mean()) if len(known) else math.nan,
                "systems": len(known),
            }
        )
    return rows
