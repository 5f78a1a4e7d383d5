"""Tables from run records: one row per cell, one row per pair of cells, and the papers' figures beside them.

Every function takes the frame of `ctrlib.lab.records.frame`, one row per run. Failed runs are counted and
take no part in a mean. AUC is a fraction, logloss in nats, times in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pandas as pd

from ctrlib.errors import DataError, RecordError, unknown
from ctrlib.lab.stats import MARGIN, OUTCOMES, Estimate, holm, one_sample, summary, verdict
from ctrlib.paths import papers_dir

INTERVAL_METRICS = ("test_auc", "test_logloss")
MEAN_METRICS = ("num_epochs", "best_epoch", "parameters")
TIME = "epoch_seconds"
PAIR_COLUMNS = [
    *("left", "right", "left_mean", "right_mean", "difference", "sd", "low", "high"),
    *("seeds", "p", "p_holm", "outcome", "negligible"),
]
Pair = tuple[str, str]


def higher_is_better(metric: str) -> bool:
    """Say whether more of `metric` is better: not so for losses, their gaps, times and sizes."""
    return not metric.endswith(("logloss", "logloss_gap", "seconds", "latency", "parameters"))


def margin_of(metric: str) -> float:
    """Return the equivalence margin: 0.0005 for an AUC, 0 (only equal runs are equivalent) for the rest."""
    return MARGIN if metric.endswith("auc") else 0.0


def natural_key(label: str) -> list[tuple[int, int | str]]:
    """Return a sort key that puts T9 before T10."""
    parts = re.split(r"(\d+)", label)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def by_seed(frame: pd.DataFrame, metric: str = "test_auc") -> pd.DataFrame:
    """Return `metric` of the completed runs, labels as rows and seeds as columns: (I, S), NaN where absent.

    Raises `RecordError` when a label has two runs of one seed: the frame then mixes settings, data sets
    or experiments, and the message names the columns that differ.
    """
    if frame.empty:
        return pd.DataFrame(dtype="float64")
    if metric not in frame:
        raise unknown("metric", metric, [str(column) for column in frame.columns])
    runs = frame[frame["status"] == "completed"]
    _refuse_twins(runs)
    runs = runs.assign(**{metric: pd.to_numeric(runs[metric])})
    values = runs.pivot(index="label", columns="seed", values=metric)
    return values.loc[sorted(values.index, key=natural_key)]


def _refuse_twins(runs: pd.DataFrame) -> None:
    twins = runs[runs.duplicated(["label", "seed"], keep=False)]
    if twins.empty:
        return
    label, seed = twins.iloc[0][["label", "seed"]]
    same = twins[(twins["label"] == label) & (twins["seed"] == seed)]
    told = ("experiment", "dataset", "fingerprint", "model", "vary", "numerics", "settings.", "protocol.")
    names = [str(column) for column in same if str(column).startswith(told)]
    differing = [name for name in names if same[name].astype(str).nunique() > 1]
    reason = f"They differ in {', '.join(differing)}" if differing else "They have the same settings"
    raise RecordError(
        f"The cell '{label}' has {len(same)} completed runs with seed {seed}. {reason}; "
        "select one of them before making a table."
    )


def cell_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per label: seeds, failed runs, mean, sd and 95 % interval of AUC and logloss, and costs.

    Columns: seeds, failed, then METRIC, METRIC_sd, METRIC_low, METRIC_high for test_auc and test_logloss,
    then the means of num_epochs, best_epoch and parameters, and the least epoch_seconds: what else ran on the machine
    makes the others longer.
    """
    parts = ("", "_sd", "_low", "_high")
    columns = ["seeds", "failed", *(f"{m}{part}" for m in INTERVAL_METRICS for part in parts), *MEAN_METRICS, TIME]
    if frame.empty:
        return pd.DataFrame(columns=columns, index=pd.Index([], name="label"))
    _refuse_twins(frame[frame["status"] == "completed"])
    labels = sorted(frame["label"].unique(), key=natural_key)
    rows = [_cell(frame[frame["label"] == label]) for label in labels]
    return pd.DataFrame(rows, index=pd.Index(labels, name="label"), columns=columns)


def _cell(runs: pd.DataFrame) -> dict[str, float]:
    done = runs[runs["status"] == "completed"]
    row: dict[str, float] = {"seeds": len(done), "failed": int((runs["status"] == "failed").sum())}
    for metric in INTERVAL_METRICS:
        found = summary(pd.to_numeric(done[metric]))
        row |= {metric: found.value, f"{metric}_sd": found.sd}
        row |= {f"{metric}_low": found.low, f"{metric}_high": found.high}
    row |= {metric: float(pd.to_numeric(done[metric]).mean()) for metric in MEAN_METRICS}
    return row | {TIME: float(pd.to_numeric(done[TIME]).min())}


def adjusted(estimates: Iterable[Estimate]) -> list[tuple[Estimate, float | None]]:
    """Return each estimate with its p value after Holm over all of them."""
    listed = list(estimates)
    return list(zip(listed, holm([e.p for e in listed]), strict=True))


def format_pairs(formats: Iterable[str], left: str = "none", right: str = "relu") -> dict[str, Pair]:
    """Return {format: ("FORMAT.left", "FORMAT.right")}, the pairs of a table without against with ReLU."""
    return {name: (f"{name}.{left}", f"{name}.{right}") for name in formats}


def paired_table(
    frame: pd.DataFrame,
    pairs: Mapping[str, Pair],
    metric: str = "test_auc",
    *,
    margin: float | None = None,
) -> pd.DataFrame:
    """Return one row per named pair of cells with the difference left - right, paired by seed.

    Columns: left, right (labels), left_mean, right_mean (over common seeds), difference, sd, low, high,
    seeds, p, p_holm (adjusted over the rows of this table), outcome, negligible. `outcome` says how the
    left cell does: better, worse, equivalent (inside `margin`), undecided, or not measured where a cell
    has no completed run. Better means a lower loss or time, and a higher value of everything else.
    """
    values = by_seed(frame, metric)
    sides = {name: values.reindex(list(pair)) for name, pair in pairs.items()}
    common = {name: rows.dropna(axis=1) for name, rows in sides.items()}
    found = adjusted(one_sample(rows.iloc[0] - rows.iloc[1]) for rows in common.values())
    margin = margin_of(metric) if margin is None else margin
    direction = 1 if higher_is_better(metric) else -1
    table = []
    for (name, pair), (estimate, p_holm) in zip(pairs.items(), found, strict=True):
        judged = verdict(estimate.interval, direction, margin, p=p_holm)
        measured = bool(sides[name].notna().any(axis=1).all())
        outcome = OUTCOMES[judged.name] if measured else "not measured"
        table.append(
            {"left": pair[0], "right": pair[1]}
            | _difference(common[name], estimate)
            | {"p_holm": p_holm, "outcome": outcome, "negligible": judged.negligible}
        )
    result = pd.DataFrame(table, index=pd.Index(list(pairs), name="pair"), columns=PAIR_COLUMNS)
    return result.astype({"p": float, "p_holm": float})


def _difference(common: pd.DataFrame, found: Estimate) -> dict[str, object]:
    left, right = (float(mean) for mean in common.mean(axis=1))
    row: dict[str, object] = {"left_mean": left, "right_mean": right, "difference": found.value}
    return row | {"sd": found.sd, "low": found.low, "high": found.high, "seeds": found.n, "p": found.p}


def papers_table(name: str) -> pd.DataFrame:
    """Return data/papers/NAME.csv; its README says what the columns are. Raises `DataError` when it is not there."""
    path = papers_dir() / f"{name}.csv"
    if not path.is_file():
        raise DataError(f"The published figures {path} are missing. Restore data/papers, or set CTRLIB_ROOT.")
    return pd.read_csv(path)


def qnn_table1() -> pd.DataFrame:
    """Return Table 1 of the QNN paper and the authors' logs, indexed by label ("T9.none"), on Criteo.

    Columns as in data/papers/qnn_table1.csv, and paper_auc, logged_auc as fractions. Cells that were not
    printed (T26 to T30) or have no log (MLP, CrossNetV2) are NaN.
    """
    table = papers_table("qnn_table1")
    table.insert(0, "label", table["format"] + "." + table["post_activation"])
    for source in ("paper", "logged"):
        table[f"{source}_auc"] = table[f"{source}_auc_pct"] / 100
    return table.set_index("label")


def published_values(metric: str) -> pd.Series:
    """Return the printed value of `metric` for each label of Table 1 of the QNN paper.

    `metric` is test_auc, test_logloss, num_epochs or best_epoch. All published logs stop two epochs after
    their best one, so the best epoch of a printed run is its number of epochs less two.
    """
    table = qnn_table1()
    known = {
        "test_auc": table["paper_auc"],
        "test_logloss": table["paper_logloss"],
        "num_epochs": table["paper_epochs"],
        "best_epoch": table["paper_epochs"] - 2,
    }
    if metric not in known:
        raise unknown("published metric", metric, known)
    return known[metric].dropna()


def join_paper(cells: pd.DataFrame) -> pd.DataFrame:
    """Return `cell_table` with the columns of Table 1 beside it; labels that the paper lacks have NaN."""
    return cells.join(qnn_table1(), how="left")
