"""What the papers print beside our cells: their tables under the labels of our runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from ctrlib.lab.tables import papers_table

STUDENTS_OF = {"GDCN": "DS-MLP"}  # teacher -> its student's label; the others are called from-TEACHER
QNN_SYSTEMS = {"Wide & Deep": "Wide&Deep", "DCNv1": "DCN", "AutoInt*": "AutoInt+", "AFN*": "AFN+", "FINAL(2B)": "FINAL"}
QNN_PARTS = {
    "w/o Res": "no-residual",
    "w/o Mid Act": "no-mid-activation",
    "w/o KRP": "no-product",
    "w/o SE Loss": "no-se",
}
DS_SYSTEMS = {"DCNV2": "DCNv2", "Final": "FINAL", "FiBiNet": "FiBiNET"}
DS_PARTS = {
    "w/o alignment Loss": "no-alignment-loss",
    "w/o student MLP": "no-student",
    "w/o parallel MLP": "no-parallel",
    "w/o dual MLP": "no-mlps",
    "w/o KD": "no-distillation",
}


def printed(paper: str, table: int, metric: str) -> pd.DataFrame:
    """Return a printed table: our labels as rows, the paper's data sets as columns, in the units of our metric.

    Empty where the table is not one of effects or does not have the metric. Table 1 of the QNN paper, whose cells are
    of another kind, is `ctrlib.lab.tables.published_values`.
    """
    reader = READERS.get((paper, table))
    rows = reader() if reader else pd.DataFrame(columns=["label", "dataset", "metric", "value"])
    rows = rows[rows["metric"] == metric].dropna(subset="value")
    return rows.pivot(index="label", columns="dataset", values="value")


def _long(name: str, column: str, names: Mapping[str, str]) -> pd.DataFrame:
    """Return a long table of the papers with labels and metrics of ours."""
    found = papers_table(name)
    found = found.assign(label=found[column].replace(dict(names)))
    return _in_our_units(found)


def _in_our_units(rows: pd.DataFrame) -> pd.DataFrame:
    value = rows["value"].astype(float)
    value = value.where(rows["metric"] != "auc_pct", value / 100)
    ours = {"auc_pct": "test_auc", "auc": "test_auc", "logloss": "test_logloss", "latency_ms": "latency"}
    return rows.assign(value=value, metric=rows["metric"].replace(ours))


def _replaced() -> pd.DataFrame:
    """Table 5 of the QNN paper: networks with another loss, and with other layers; two forms of ours stand for one."""
    rows = _long("qnn_table5", "model", {})
    label = rows["label"].str.replace(" + SE Loss", "+SE").str.replace(" (QNN-alpha)", "-QNN")
    rows = rows.assign(label=label)
    both = rows[label.isin(["DeepFM-QNN", "DCNv2-QNN"])]
    return pd.concat([rows, *(both.assign(label=both["label"] + end) for end in (".released", ".written"))])


def _heads() -> pd.DataFrame:
    """Table 6 of the QNN paper: accuracy and latency by heads; both modes of ours stand for one."""
    rows = _long("qnn_table6", "model", QNN_SYSTEMS)
    ours, others = rows[rows["label"] == "QNN-alpha"], rows[rows["label"] != "QNN-alpha"]
    heads = ours["heads"].astype(float).astype(int).astype(str)
    parts = [others, ours[heads == "1"]]
    for mode in ("released", "written"):
        parts += [ours.assign(label=f"{mode}." + heads), ours.assign(label="heads=" + heads + f".{mode}")]
    return pd.concat(parts)


def _passes() -> pd.DataFrame:
    """Table 7 of the QNN paper: an epoch with one pass and with two, as the base-2 logarithm of seconds."""
    rows = _long("qnn_table7", "model", {"QNN-alpha w/o SE Loss": "one pass", "QNN-alpha": "two passes"})
    rows = rows[rows["metric"] == "seconds_per_epoch"]
    return rows.assign(metric="log2_seconds", value=np.log2(rows["value"]))


def _overall() -> pd.DataFrame:
    """Table 4 of the DS-MLP paper: accuracy and latency."""
    wide = papers_table("dsmlp_table4").replace({"model": DS_SYSTEMS}).rename(columns={"model": "label"})
    rows = _in_our_units(wide.melt(["label", "dataset"], ["auc", "logloss", "latency_ms"], "metric"))
    slow = rows[rows["metric"] == "latency"]
    timed = slow.assign(label=slow["label"] + " latency", metric="log2_latency", value=np.log2(slow["value"]))
    return pd.concat([rows, timed])


def _taught() -> pd.DataFrame:
    """Table 5 of the DS-MLP paper: teachers and their students."""
    rows = _long("dsmlp_table5", "teacher", {"AutoInt": "AutoInt+"})
    student = [STUDENTS_OF.get(name, f"from-{name}") for name in rows["label"]]
    return rows.assign(label=rows["label"].where(rows["variant"] == "teacher", pd.Series(student, index=rows.index)))


READERS: dict[tuple[str, int], Callable[[], pd.DataFrame]] = {
    ("QNN-alpha", 3): lambda: _long("qnn_table3", "model", QNN_SYSTEMS),
    ("QNN-alpha", 4): lambda: _long("qnn_table4", "variant", QNN_PARTS),
    ("QNN-alpha", 5): _replaced,
    ("QNN-alpha", 6): _heads,
    ("QNN-alpha", 7): _passes,
    ("DS-MLP", 4): _overall,
    ("DS-MLP", 5): _taught,
    ("DS-MLP", 6): lambda: _long("dsmlp_table6", "variant", DS_PARTS),
}
