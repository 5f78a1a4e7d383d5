"""What chapters show of records: comparisons with a reference, sweeps, and runs made now beside their records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ctrlib import views
from ctrlib.errors import DataError, SettingError
from ctrlib.lab.claims import Claim, evaluate_claims
from ctrlib.views import chapter
from ctrlib.views import claims as claim_views

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


def test_seeds_of_one_cell_alone_take_no_part() -> None:
    runs = frame()
    more = runs[runs["label"] == "A"].assign(seed=lambda rows: rows["seed"] + 4, test_auc=0.1)
    runs = pd.concat([runs, more], ignore_index=True)
    found = views.against(runs, "A", {"A": "first", "B": "second"}).set_index("name")
    assert found.loc["first", "test_auc"] == pytest.approx(81.5) and found.loc["first", "seeds"] == 4
    assert views.sweep(runs, {"A": 1, "B": 2}, "rows")["seeds"].tolist() == [4, 4]
    assert views.sweep(runs, {"A": 1}, "rows")["seeds"].tolist() == [8], "a single cell keeps all of its runs"
    alone = pd.concat([more, frame().query("label == 'B'")], ignore_index=True)
    assert views.sweep(alone, {"A": 1, "B": 2}, "rows")["seeds"].tolist() == [4, 4], "no seed is shared: all are kept"
    broken = runs.assign(status=runs["status"].where((runs["label"] != "B") | (runs["seed"] != 1), "failed"))
    found = views.against(broken, "A", {"A": "first", "B": "second"}).set_index("name")
    assert found.loc["second", "failed"] == 1, "a failed run is counted"


def test_a_default_with_more_seeds_moves_no_point() -> None:
    runs = frame()
    more = runs[runs["label"] == "A"].assign(seed=lambda rows: rows["seed"] + 4, test_auc=0.1, main=0.1)
    runs = pd.concat([runs.assign(main=runs["test_auc"]), more], ignore_index=True)
    fewer = runs[(runs["label"] != "C") | (runs["seed"] < 3)]  # C has two seeds, B four, A eight
    labels = {"A": 1, "B": 2, "C": 3}
    shared = views.common_seeds(fewer, labels)
    assert views.seeds_told(shared) == "seeds 1, 2" and views.seeds_told(shared.head(1)) == "seed 1"
    means = views.seed_means(shared, "main", 100).set_index("label")
    assert means["value"].to_dict() == pytest.approx({"A": 81.0, "B": 82.0, "C": 72.5})
    assert means["seeds"].tolist() == [2, 2, 2] and (means["half"] > 0).all()
    swept = views.sweep(fewer, labels, "rows")
    assert swept["seeds"].tolist() == [2, 2, 2] and swept["test_auc"].tolist() == pytest.approx([81.0, 82.0, 72.5])
    names = {"A": "first", "C": "third", "D": "not measured"}
    assert views.reference_means(fewer, names, "main", [1, 2]) == pytest.approx({"first": 0.81, "third": 0.725})
    assert views.reference_means(fewer, names, "main", [3, 4]) == pytest.approx({"first": 0.82}), "all seeds or none"
    unmeasured = fewer.assign(main=fewer["main"].where((fewer["label"] != "B") | (fewer["seed"] == 2)))
    assert set(views.common_seeds(unmeasured, labels, "main")["seed"]) == {2}, "runs with the metric count"
    assert views.common_seeds(fewer, labels, "unknown").empty and views.common_seeds(fewer, ["D"]).empty
    assert views.seed_means(fewer.head(0), "main").empty and views.seed_means(fewer, "unknown").empty
    assert views.reference_means(fewer, names, "unknown", [1]) == {}


def test_what_is_not_at_hand_is_skipped_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    have: set[str] = set()

    def load(name: str) -> None:
        if name not in have:
            raise DataError(f"'{name}' is not here: fetch it.")

    monkeypatch.setattr(chapter, "load_dataset", load)
    names = ["frappe_x1-rebuilt", "ml-100k"]
    have |= {"frappe_x1-rebuilt", "frappe_x1", "ml-100k"}
    assert views.at_hand(names) == names and capsys.readouterr().out == ""
    have.remove("frappe_x1-rebuilt")
    assert views.at_hand(names) == ["frappe_x1", "ml-100k"]
    assert "frappe_x1 stands in for frappe_x1-rebuilt" in capsys.readouterr().out
    have.remove("frappe_x1")
    assert views.at_hand(names) == ["ml-100k"]
    out = capsys.readouterr().out
    assert "Skipped frappe_x1-rebuilt" in out and "Skipped frappe_x1: 'frappe_x1' is not here: fetch it." in out
    have.remove("ml-100k")
    with pytest.raises(DataError, match="ml-100k"):
        views.at_hand(names)


def test_intervals_stand_behind_their_values() -> None:
    rows = views.against(frame(), "A", {"A": "first", "B": "second"})
    text = views.comparison(rows, "caption").html
    half = rows.loc[1, "test_auc_half"]
    assert f"82.50 <small>± {half:.2f}</small>" in text and "+1.00 <small>[+1.00, +1.00]</small>" in text
    assert "low" not in text and "test_auc_half" not in text, "the parts have no columns of their own"
    assert "not that of the means" not in text, "both have the same seeds"
    uneven = views.comparison(rows.assign(seeds=[5, 3]), "caption").html
    assert "other seeds, their difference is not that of the means shown" in uneven
    both = views.table(rows, {"difference": ("difference", ".1f"), "low": ("low", ".1f")}, "caption").html
    assert "1.0</td>" in both and "<small>" not in both, "unless they are asked for"


def test_verdicts_are_told_in_units(monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"paper": "p", "section": "s", "sentence": "s", "reading": "r", "experiment": "e"}
    claims = [Claim(**about, **claim) for claim in CLAIMS]
    monkeypatch.setattr(claim_views, "load_claims", lambda: claims)
    found = evaluate_claims(frame().assign(main_share=0.6), "e", "d", claims)
    text = views.verdict_table(found, "d").html
    assert "+1.00 points of AUC [+1.00, +1.00]" in text and "-0.0100 nats" in text
    assert "not measured" in text and "in the paper" not in text, "where the paper prints none"
    loss = next(claim for claim in claims if claim.id == "loss")
    assert views.in_units(loss, -1.2e-5) == "-0.000012 nats", "not a zero"
    assert views.in_units(loss, 0.0) == "+0.0000 nats"
    both = views.test_table({"d": found, "other": found}).html
    assert both.count("<details>") == 1 and both.count("<tr>") == 1 + len(claims), "a row for each claim"
    assert "d: test_auc: B - A; other: test_auc: B - A" in both


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


def test_findings_are_a_heading_and_a_short_list() -> None:
    told = views.findings("d", ["Does it help? *undecided*.", "", "Is it dear? Yes."])
    assert told == "**d**\n\n- Does it help? *undecided*.\n- Is it dear? Yes."
    assert views.findings("d", [""]).endswith("- Not measured yet.")


CLAIMS = (
    {"id": "one", "kind": "difference", "pairs": (("B", "A"),)},
    {"id": "best", "kind": "rank-first", "pairs": (("B", "A"), ("B", "C"))},
    {"id": "most", "kind": "share", "pairs": (("B", "A"), ("C", "A")), "threshold": 0.5},
    {"id": "loss", "kind": "difference", "pairs": (("B", "A"),), "metric": "test_logloss", "direction": "lower"},
    {"id": "level", "kind": "level", "pairs": (("A", ""),), "metric": "main_share", "threshold": 0.5},
    {"id": "absent", "kind": "difference", "pairs": (("B", "D"),)},
)


def test_an_answer_has_the_numbers_that_decide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"paper": "p", "section": "s", "sentence": "s", "reading": "r", "experiment": "e"}
    claims = [Claim(**about, **claim) for claim in CLAIMS]
    monkeypatch.setattr(claim_views, "load_claims", lambda: claims)
    measured = frame().assign(main_share=[0.5, 0.6, 0.7, 0.8] * 3)
    found = evaluate_claims(measured, "e", "d", claims)
    verdict = found.set_index("id")["verdict"]
    said = views.answer("Is B better?", found, "one", lead="It gains")
    assert said == f"Is B better? It gains +1.00 points of AUC [+1.00, +1.00]: *{verdict['one']}*."
    best = views.answer("Is B best?", found, "best")
    assert "Rank 1 of 3; +1.00 points of AUC" in best and "in the weakest of 2 comparisons: *" in best
    assert views.answer("Are most?", found, "most").startswith("Are most? 50 %")
    assert "-0.0100 nats" in views.answer("Is it lower?", found, "loss")
    assert "? 0.65 [" in views.answer("Is it high?", found, "level")
    assert views.answer("And D?", found, "absent", lead="It gains") == "And D? *Not measured.*"
    with pytest.raises(SettingError, match="Did you mean 'best'"):
        views.answer("Is it?", found, "bets")
    assert views.answer("And D?", found, "absent", told="1 of 2") == (
        "And D? 1 of 2; the claim needs more runs: *not measured*."
    )


def test_an_estimate_without_interval_is_a_number() -> None:
    assert views.estimate(0.614, -0.2, 1.4) == "+0.61 [-0.20, +1.40]"
    assert views.estimate(0.614, float("nan"), float("nan"), ".1f", " %") == "0.6 %"


def test_long_listings_name_extremes_and_decided_cells_only() -> None:
    outcomes = ["worse", "undecided", "equivalent", *5 * ["undecided"]]
    rows = pd.DataFrame({"name": list("abcdefgh"), "difference": [-2.0, -1, 0, 1, 3, 2, 1, 1], "outcome": outcomes})
    assert views.listing(rows) == "a -2.00 (worse); e +3.00 (undecided); 5 others undecided; 1 other equivalent"
    assert views.listing(rows.head(2)) == "a -2.00 (worse); b -1.00 (undecided)"
    better = rows.assign(outcome="better")
    assert views.listing(better) == "a -2.00 (better); e +3.00 (better); 6 others better"
    assert views.listing(rows.assign(difference=float("nan"))) == "not measured"


def test_settings_are_printed_alike() -> None:
    shown = [views.setting(value) for value in ((300, 300), [400], True, np.False_, 0.1, "x")]
    assert shown == ["300×300", "400", "on", "off", 0.1, "x"]
