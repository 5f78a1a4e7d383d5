"""What chapters show of records: comparisons with a reference, sweeps, and runs made now beside their records."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from ctrlib import views

AUC = {"A": [0.80, 0.82, 0.81, 0.83], "B": [0.81, 0.83, 0.82, 0.84], "C": [0.70, 0.75, 0.72, 0.71]}


def frame() -> pd.DataFrame:
    """Three cells of four seeds; B is one point of AUC above A in every seed."""
    rows: list[dict[str, Any]] = []
    for label, values in AUC.items():
        for seed, auc in enumerate(values, start=1):
            row = {"experiment": "e", "dataset": "d", "label": label, "seed": seed, "status": "completed"}
            row |= {"test_auc": auc, "test_logloss": 1 - auc, "num_epochs": 5, "best_epoch": 3}
            rows.append(row | {"epoch_seconds": 2.0, "parameters": 10})
    return pd.DataFrame(rows)


def test_cells_are_compared_with_the_reference_seed_by_seed() -> None:
    found = views.against(frame(), "A", {"A": "first", "C": "third", "B": "second", "D": "not measured"})
    assert found["name"].tolist() == ["first", "third", "second"], "in the order asked for, measured cells only"
    by_name = found.set_index("name")
    assert by_name.loc["second", "difference"] == pytest.approx(1.0)
    assert by_name.loc["second", "logloss_difference"] == pytest.approx(-0.01)
    assert by_name.loc["third", "outcome"] == "worse" and pd.isna(by_name.loc["first", "difference"])
    assert by_name.loc["first", "test_auc"] == pytest.approx(81.5)
    drawn = views.against_figure(found, "first", "title")
    assert sum(len(trace.x) for trace in drawn.data) == 2, "the reference itself is the dashed line"


def test_a_sweep_is_in_order_of_its_factor() -> None:
    found = views.sweep(frame(), {"B": 8, "A": 2, "D": 4}, "rows")
    assert found["rows"].tolist() == [2, 8] and found["label"].tolist() == ["A", "B"]
    listed = views.sweep_table(found.assign(side="s"), "rows", "caption", {"side": ("kind", "")}).html
    assert listed.index("kind") < listed.index(">rows<") < listed.index("AUC %") and "<td" in listed
    drawn = views.sweep_figure(found.assign(side="s"), "rows", "title", "R", color="side")
    assert list(drawn.data[0].y) == [81.5, 82.5] and drawn.data[0].error_y.array is not None


def record(seed: int, auc: float) -> dict[str, Any]:
    scores = {"auc": auc, "logloss": 0.5}
    keys = {"experiment": "e", "dataset": "d", "fingerprint": "f", "model": "T9", "label": "A", "status": "completed"}
    return keys | {"seed": seed, "settings": {}, "protocol": {}, "valid": scores, "test": scores, "epochs": []}


def test_runs_made_now_stand_beside_their_records() -> None:
    now = views.made([record(1, 0.80), record(9, 0.9)], frame())
    assert now["test_auc recorded"].tolist()[0] == 0.80 and pd.isna(now["test_auc recorded"].iloc[1])
    assert "test_auc recorded" not in views.made([record(1, 0.8)], pd.DataFrame())
