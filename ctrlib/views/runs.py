"""What chapters show of run records: tables of cells and gaps, sweeps, learning curves.

Each function takes the frame of `ctrlib.lab.records.frame`, or what `ctrlib.lab` made of it, and returns a figure or
a table of `ctrlib.figures`. AUC is shown in percent, differences of AUC in points of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ctrlib.figures import Table, curves, figure_table, intervals, scatter
from ctrlib.lab.provenance import learning_curves
from ctrlib.lab.records import Record
from ctrlib.lab.records import frame as record_frame
from ctrlib.lab.search import SEARCH
from ctrlib.lab.stats import summary
from ctrlib.lab.tables import Pair, cell_table, join_paper, paired_table

GAP = "AUC without − with ReLU (points of AUC in %)"
DIFFERENCE = "AUC less that of {} (points of AUC in %)"
Columns = Mapping[str, tuple[str, str]]  # column -> heading, format

SPANS = {  # column -> half the width of its 95 % interval, or its ends; written behind the value
    "test_auc": ("test_auc_half",),
    "test_logloss": ("test_logloss_half",),
    "difference": ("low", "high"),
    "logloss_difference": ("logloss_low", "logloss_high"),
}

CELL_COLUMNS: Columns = {
    "layer": ("layer", ""),
    "side": ("side", ""),
    "test_auc": ("AUC %", ".2f"),
    "test_auc_sd": ("sd", ".2f"),
    "seeds": ("seeds", ""),
    "paper_auc_pct": ("paper AUC %", ".2f"),
    "num_epochs": ("epochs", ".1f"),
    "paper_epochs": ("paper epochs", ".0f"),
    "epoch_seconds": ("s/epoch, least", ".1f"),
    "paper_minutes_per_epoch": ("paper min/epoch", ".0f"),
    "test_logloss": ("logloss", ".4f"),
    "paper_logloss": ("paper logloss", ".4f"),
    "parameters": ("parameters", ",.0f"),
    "failed": ("failed", ""),
}
GAP_COLUMNS: Columns = {
    "format": ("format", ""),
    "reading": ("reading", ""),
    "difference": ("gap, points of AUC", "+.2f"),
    "outcome": ("without ReLU", ""),
    "seeds": ("seeds", ""),
    "p_holm": ("p (Holm)", ".3f"),
    "left_mean": ("AUC without", ".4f"),
    "right_mean": ("AUC with", ".4f"),
}
AGAINST_COLUMNS: dict[str, tuple[str, str]] = {
    "name": ("network", ""),
    "test_auc": ("AUC %", ".2f"),
    "difference": ("difference, points", "+.2f"),
    "outcome": ("outcome", ""),
    "seeds": ("seeds", ""),
    "test_logloss": ("logloss", ".4f"),
    "logloss_difference": ("difference, nats", "+.4f"),
    "p_holm": ("p (Holm)", ".3f"),
    "failed": ("failed", ""),
    "num_epochs": ("epochs", ".1f"),
    "epoch_seconds": ("s/epoch, least", ".1f"),
    "parameters": ("parameters", ",.0f"),
}
MADE_COLUMNS: Columns = {
    "label": ("cell", ""),
    "seed": ("seed", ""),
    "status": ("status", ""),
    "num_epochs": ("epochs", ""),
    "test_auc": ("AUC now", ".4f"),
    "test_auc recorded": ("AUC recorded", ".4f"),
    "test_logloss": ("logloss now", ".4f"),
    "test_logloss recorded": ("logloss recorded", ".4f"),
    "epoch_seconds": ("s/epoch", ".2f"),
}

FEWEST = 3  # seeds behind an interval of a mean


def table(df: pd.DataFrame, columns: Columns, caption: str) -> Table:
    """Return those of `columns` that `df` has, with headings, formats and intervals (`SPANS`)."""
    present = {name: spec for name, spec in columns.items() if name in df}
    spans = {name: parts for name, parts in SPANS.items() if name in present and set(parts) <= set(df) - set(present)}
    headings = {name: heading for name, (heading, _) in present.items()}
    formats = {name: digits for name, (_, digits) in present.items() if digits}
    kept = [*present, *(part for parts in spans.values() for part in parts)]
    return figure_table(df[kept], formats=formats, headings=headings, spans=spans, caption=caption)


def cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each cell: means and half widths of 95 % intervals, with the QNN paper's Table 1 beside."""
    found = join_paper(_percent(cell_table(frame))).reset_index()
    found["layer"] = found["label"].str.split(".").str[0]
    found["side"] = found["label"].str.split(".", n=1).str[1]
    return found


def gaps(frame: pd.DataFrame, pairs: Mapping[str, Pair]) -> pd.DataFrame:
    """Return one row for each pair that is measured: test AUC of the left less the right side, in percent."""
    found = paired_table(frame, pairs).reset_index(names="format")
    found[["difference", "low", "high"]] *= 100
    return found[found["outcome"] != "not measured"]


def against(frame: pd.DataFrame, reference: str, names: Mapping[str, str]) -> pd.DataFrame:
    """Return one row for each measured label of `names` (label -> name shown), compared with the label `reference`.

    AUC and its paired difference in percent, logloss and its paired difference in nats; the tests are adjusted over
    the rows. The reference has no difference from itself. Seeds that only one of the cells has are left out, so that
    means and differences are over the same runs as far as these go.
    """
    frame = _shared(frame, names)
    found = _percent(cell_table(frame)).reset_index()
    others = {label: (label, reference) for label in names if label != reference}
    for metric, prefix, scale in (("test_auc", "", 100.0), ("test_logloss", "logloss_", 1.0)):
        compared = paired_table(frame, others, metric)
        part = scale * compared[["difference", "low", "high"]]
        if not prefix:
            part = part.assign(outcome=compared["outcome"], p_holm=compared["p_holm"])
        found = found.merge(part.add_prefix(prefix), left_on="label", right_index=True, how="left")
    order = {label: place for place, label in enumerate(names)}
    found = found.assign(name=found["label"].map(dict(names)), place=found["label"].map(order))
    return found.sort_values("place").drop(columns="place").reset_index(drop=True)


def _shared(frame: pd.DataFrame, labels: Iterable[str]) -> pd.DataFrame:
    """Return the runs of `labels` whose seed at least two of the labels have; all runs where no seed is shared."""
    runs = frame[frame["label"].isin(list(labels))]
    owners = runs.groupby("seed")["label"].nunique()
    shared = owners.index[owners > 1]
    return runs[runs["seed"].isin(shared)] if len(shared) else runs


def common_seeds(frame: pd.DataFrame, labels: Iterable[str], metric: str = "") -> pd.DataFrame:
    """Return the runs of `labels` with the seeds that all measured labels have; where none is, those that most have.

    A seed can fix a teacher or a split, so means over different seeds do not compare. metric: only runs on which it
    is measured take part.
    """
    runs = frame[frame["label"].isin(list(labels))]
    if metric:
        runs = runs[pd.to_numeric(runs[metric]).notna()] if metric in runs else runs.head(0)
    owners = runs.groupby("seed")["label"].nunique()
    return runs[runs["seed"].isin(owners.index[owners == owners.max()])]


def seed_means(runs: pd.DataFrame, metric: str, scale: float = 1.0) -> pd.DataFrame:
    """Return, for each label, the mean of a metric (value), half of its 95 % interval (half), and the seeds."""
    parts = runs.groupby("label", sort=False)[metric] if metric in runs else ()
    found = {label: summary(scale * pd.to_numeric(part)) for label, part in parts}
    rows = [{"label": k, "value": e.value, "half": (e.high - e.low) / 2, "seeds": e.n} for k, e in found.items() if e.n]
    return pd.DataFrame(rows, columns=["label", "value", "half", "seeds"])


def reference_means(
    frame: pd.DataFrame, names: Mapping[str, str], metric: str, seeds: Iterable[int], scale: float = 1.0
) -> dict[str, float]:
    """Return name shown -> mean of a metric over `seeds`, for each label of `names` that is measured on all of them."""
    asked = set(seeds)
    found = seed_means(frame[frame["seed"].isin(asked) & frame["label"].isin(list(names))], metric, scale)
    whole = found[found["seeds"] == len(asked)].set_index("label")["value"]
    return {names[label]: float(whole[label]) for label in names if label in whole.index}


def _percent(cells: pd.DataFrame) -> pd.DataFrame:
    """Return `cell_table` with AUC in percent and the half widths of the 95 % intervals of AUC and logloss.

    An interval from fewer than `FEWEST` seeds is left out: that of two seeds is as wide as chance makes it.
    """
    found = cells.copy()
    for metric, scale in (("test_auc", 100), ("test_logloss", 1)):
        half = scale * (found[f"{metric}_high"] - found[f"{metric}_low"]) / 2
        found[f"{metric}_half"] = half.where(found["seeds"] >= FEWEST)
        found[[metric, f"{metric}_sd"]] *= scale
    return found


def comparison(rows: pd.DataFrame, caption: str, extra: Columns | None = None) -> Table:
    """Return the table of `against`, with `extra` columns behind its own."""
    note = "AUC: mean ± half a 95 % interval; differences are paired by seed, in brackets 95 % intervals."
    if rows["seeds"].nunique() > 1:
        note += " Where two rows have other seeds, their difference is not that of the means shown."
    idle = [name for name in ("failed", "p_holm") if name in rows and not rows[name].fillna(0).any()]
    return table(rows.drop(columns=idle), AGAINST_COLUMNS | dict(extra or {}), f"{caption} {note}")


def against_figure(rows: pd.DataFrame, reference: str, title: str) -> Any:
    """Draw the paired differences of `against`, in the order of its rows; the dashed line is the reference."""
    rows = rows.dropna(subset="difference")
    axes = {"x_title": DIFFERENCE.format(reference), "title": title, "reference": 0.0, "format": "+.3f"}
    return intervals(rows, "difference", "name", "low", "high", **axes)  # type: ignore[arg-type]


def sweep(frame: pd.DataFrame, values: Mapping[str, float], column: str) -> pd.DataFrame:
    """Return one row for each measured label of `values` (label -> value of the factor), in order of the value.

    All points are over the same seeds, see `common_seeds`.
    """
    found = _percent(cell_table(common_seeds(frame, values))).reset_index()
    return found.assign(**{column: found["label"].map(dict(values))}).sort_values(column).reset_index(drop=True)


def sweep_table(rows: pd.DataFrame, column: str, caption: str, extra: Columns | None = None) -> Table:
    """Return the table of `sweep`, with the factor and `extra` columns before the figures."""
    scores = ("test_auc", "test_logloss", "seeds", "failed")
    costs = ("num_epochs", "epoch_seconds", "parameters")
    columns = {**dict(extra or {}), column: (column, "g"), **{name: AGAINST_COLUMNS[name] for name in scores + costs}}
    return table(rows, columns, caption)


def sweep_figure(rows: pd.DataFrame, column: str, title: str, x_title: str, color: str | None = None) -> Any:
    """Draw AUC over a factor with 95 % intervals over seeds."""
    titles = {"x_title": x_title, "y_title": "test AUC (%)", "title": title}
    rows = rows.assign(test_auc=rows["test_auc"].round(3), test_auc_half=rows["test_auc_half"].round(3))
    drawn = {"color": color, "y_error": "test_auc_half", "joined": True, "names": False}
    return scatter(rows, column, "test_auc", "label", **drawn, **titles)  # type: ignore[arg-type]


def made(records: Sequence[Record], recorded: pd.DataFrame | None) -> pd.DataFrame:
    """Return one row for each run made now, beside the record of the same cell and seed where there is one.

    recorded: the experiment's runs; None where the runs of now are smaller than any recorded one.
    """
    now = record_frame(list(records))
    now = now[[name for name in MADE_COLUMNS if name in now]]
    if recorded is None or recorded.empty:
        return now
    stored = recorded[["label", "seed", "test_auc", "test_logloss"]]
    return now.merge(stored, on=["label", "seed"], how="left", suffixes=("", " recorded"))


def gap_figure(rows: pd.DataFrame, title: str, color: str | None = None) -> Any:
    """Draw the gaps of `rows`, the largest on top; the dashed line is no difference."""
    if color is None:
        rows = rows.sort_values("difference", ascending=False)
    axes = {"x_title": GAP, "title": title, "reference": 0.0, "format": ".3f"}
    return intervals(rows, "difference", "format", "low", "high", color=color, **axes)  # type: ignore[arg-type]


def curve_figure(records: Sequence[Record], order: Sequence[str], title: str) -> Any:
    """Draw validation AUC over epochs, all runs of one layer at a time, with a menu in the given order."""
    lines = learning_curves([r for r in records if not r["label"].startswith(SEARCH)])
    parts = lines["label"].str.split(".", n=1)
    lines["layer"], lines["run"] = parts.str[0], parts.str[1] + ", seed " + lines["seed"].astype(str)
    rank = {name: number for number, name in enumerate(order)}
    lines = lines.assign(rank=lines["layer"].map(rank)).sort_values(["rank", "run", "epoch"])
    lines["side"] = parts.str[1]
    return curves(lines, "epoch", "valid_auc", "run", menu="layer", color="side", y_title="validation AUC", title=title)
