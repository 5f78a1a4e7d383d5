"""The overall tables: each system's settings and runs, and which systems can be told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ctrlib.data import DATASETS, Schema
from ctrlib.errors import RecordError, SettingError
from ctrlib.lab import dual_stream, overall
from ctrlib.lab.dual_stream import Tuned, base_protocol
from ctrlib.lab.leaderboard import FRAPPE
from ctrlib.lab.tables import papers_table
from ctrlib.models import MODELS, build_model
from ctrlib.models.base import checked
from ctrlib.paths import root


@pytest.fixture
def stored_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTRLIB_RECORDS", str(root() / "data" / "records"))


def test_every_system_of_the_roster_can_be_built_at_its_settings() -> None:
    for name, listing in FRAPPE.items():
        assert listing.model in MODELS, name
        checked(MODELS[listing.model].settings, listing.model, listing.settings)


# Ids of each field in the logs of the benchmark's version 1; version 2 has one more in each.
IDS = {"user": 955, "item": 4083, "daytime": 8, "weekday": 8, "isweekend": 3}
IDS |= {"homework": 4, "cost": 3, "weather": 10, "country": 81, "city": 234}
VERSION_2 = ("FinalMLP", "FINAL")
# What version 1 counts besides: the MLP of DNN a second time; the bias of DeepFM's first-order term is not there yet.
ALSO_COUNTED = {"DNN": 364_001, "DeepFM": -1}


@pytest.mark.parametrize("row", papers_table("bars_frappe_x1").to_dict("records"), ids=lambda row: row["model"])
def test_settings_are_those_of_the_logged_run(row: dict[str, Any]) -> None:
    listing = FRAPPE[row["model"]]
    assert listing.source == "board" and listing.strength == row["embedding_regularizer"]
    fields = DATASETS["frappe_x1"].fields
    sizes = tuple(IDS[field.name] + (row["model"] in VERSION_2) for field in fields)
    model = build_model(listing.model, Schema(fields, sizes), embedding_dim=10, **listing.settings)
    assert model.num_parameters + ALSO_COUNTED.get(row["model"], 0) == row["parameters"]


def test_what_is_not_on_the_board_is_not_said_to_be() -> None:
    listed = set(papers_table("bars_frappe_x1")["model"])
    assert {name for name, listing in FRAPPE.items() if listing.source == "board"} == listed


def frame(values: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        {"label": name, "seed": seed, "status": "completed", "test_auc": value}
        for name, row in values.items()
        for seed, value in enumerate(row, start=1)
    ]
    return pd.DataFrame(rows)


def test_groups_are_stretches_in_which_no_pair_is_told_apart() -> None:
    means = {"a": 0.9, "b": 0.8999, "c": 0.7, "d": 0.5}
    wobble = 0.01 * np.array([[1, -1] * 4, [-1, 1] * 4, [1, 1, -1, -1] * 2, [1, -1, -1, 1] * 2])
    runs = frame({name: list(mean + row) for (name, mean), row in zip(means.items(), wobble, strict=True)})
    assert overall.ranked(runs) == list("abcd")
    assert overall.groups(runs) == [("a", "b"), ("c", "c"), ("d", "d")]
    table = overall.told_apart(runs)
    assert len(table) == 6 and table["apart"].sum() == 5 and (table["difference"] >= 0).all()


def test_groups_can_overlap_and_few_seeds_tell_nothing_apart() -> None:
    step = {"a": 0.012, "b": 0.006, "c": 0.0}
    wobble = np.array([[1, -1, 1, -1, 1, -1], [1, 1, -1, -1, 1, -1], [-1, 1, 1, -1, -1, 1]]) * 0.004
    runs = frame({name: list(0.8 + mean + row) for (name, mean), row in zip(step.items(), wobble, strict=True)})
    assert overall.groups(runs) == [("a", "b"), ("b", "c")]
    few = runs[runs["seed"] <= 3]
    assert len(overall.groups(few)) == 1 and not overall.told_apart(few)["apart"].any()


def test_the_better_of_a_pair_is_the_better_over_common_seeds() -> None:
    rng = np.random.default_rng(1)
    luck = np.array([0.0] * 5 + [0.1] * 5)  # of seeds: those that b lacks are lucky ones
    runs = frame({"a": list(0.7 + luck + 1e-3 * rng.standard_normal(10))})
    runs = pd.concat([runs, frame({"b": list(0.72 + 1e-3 * rng.standard_normal(5))})])
    assert overall.ranked(runs) == ["a", "b"]
    (row,) = overall.told_apart(runs).itertuples()
    assert (row.left, row.right, row.apart, row.seeds) == ("b", "a", True, 5) and row.difference > 0
    assert overall.groups(runs) == [("a", "a"), ("b", "b")]


def test_the_frontier_holds_what_nothing_beats_in_both() -> None:
    points = pd.DataFrame(
        {
            "label": ["dear, best", "cheap, low", "dear, low", "middle", "cheap, lower", "as middle", "no cost"],
            "cost": [9.0, 1.0, 9.5, 4.0, 1.0, 4.0, np.nan],
            "test_auc": [98.0, 90.0, 97.0, 95.0, 89.0, 95.0, 99.0],
        }
    )
    assert overall.frontier(points, "cost") == ["cheap, low", "middle", "dear, best"]
    shuffled = points.sample(frac=1, random_state=0)
    assert len(overall.frontier(shuffled, "cost")) == 3
    assert overall.frontier(points.tail(1), "cost") == []


def test_logloss_is_ranked_from_below() -> None:
    runs = frame({"a": [0.1, 0.2], "b": [0.3, 0.4]}).rename(columns={"test_auc": "test_logloss"})
    assert overall.ranked(runs, "test_logloss") == ["a", "b"]


def test_settings_come_from_where_the_table_says(stored_records: None) -> None:
    assert overall.origin_of_settings("frappe_x1", "DCNv2") == "board"
    assert overall.origin_of_settings("frappe_x1", "DS-MLP") == "authors"
    assert overall.origin_of_settings("ml-100k", "DCNv2") == "search"
    assert overall.origin_of_settings("ml-100k", "FM") == "board, L2 searched"
    assert overall.origin_of_settings("ml-100k", "EulerNet") == "authors, L2 searched"
    assert overall.origin_of_settings("ml-100k", "RFM") == "ours, L2 searched"
    with pytest.raises(SettingError, match="Did you mean 'DCNv2'"):
        overall.origin_of_settings("ml-100k", "DCNv3x")
    assert len(overall.strength_search("frappe_x1")) == 0
    search = overall.strength_search("ml-100k", ["FM"])
    assert [run.protocol.embedding_regularizer for run in search.runs] == list(overall.STRENGTHS)
    assert {run.seed for run in search.runs} == {0}, "no result has seed 0"
    with pytest.raises(SettingError, match="system without a search 'DS-MLP'"):
        overall.strength_search("ml-100k", ["DS-MLP"])


def test_runs_of_other_chapters_are_used_again(stored_records: None) -> None:
    runs = {name: overall.system_run("frappe_x1-rebuilt", name, 1) for name in ("GDCN", "DS-MLP", "FM")}
    assert [run.experiment for run in runs.values()] == ["teachers", "align", "overall"]
    assert runs["FM"].protocol.embedding_regularizer == FRAPPE["FM"].strength
    assert overall.system_run("ml-100k", "DCNv2", 1).path.parts[0] == "teachers"


STRENGTHS = {"MLP": 0.03, "DCNv2": 0.01, "xDeepFM": 0.1, "AutoInt+": 0.001}


def searched(dataset: str, name: str) -> Tuned:
    model, settings = dual_stream.systems(dataset)[name]
    protocol = base_protocol(dataset).replace(embedding_regularizer=STRENGTHS[name])
    return Tuned(model, {"embedding_dim": 10, "dropout": 0.4, **settings}, protocol)


@pytest.mark.parametrize("dataset", ["frappe_x1-rebuilt", "ml-100k"])
def test_eckd_learns_from_the_three_runs_of_its_seed(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = dataset != "ml-100k"
    if not listed:  # a search stands in for the recorded one
        for module in (dual_stream, overall):
            monkeypatch.setattr(module, "tuned", searched)
    run = overall.system_run(dataset, "ECKD", 2)
    assert [parent.label for parent in run.parents] == ["AutoInt+", "DCNv2", "xDeepFM"]
    for parent, (model, settings) in zip(run.parents, run.full_settings["teachers"], strict=True):
        assert parent.path == overall.system_run(dataset, parent.label, 2).path and parent.keep
        told = checked(MODELS[model].settings, model, settings)
        assert model == parent.model and told == checked(MODELS[model].settings, model, parent.settings)
    strength = FRAPPE["DNN"].strength if listed else STRENGTHS["MLP"]
    assert run.protocol == base_protocol(dataset).replace(embedding_regularizer=strength)
    own = {name: run.full_settings[name] for name in ("distill_weight", "temperature", "weighting")}
    assert own == {"distill_weight": 1.0, "temperature": 1.0, "weighting": "learned"}
    plain = overall.system_run("frappe_x1", "DNN", 2).full_settings
    assert plain.items() <= run.full_settings.items() and len(run.full_settings) == len(plain) + 4
    assert overall.origin_of_settings(dataset, "ECKD") == "ours"
    assert "search:ECKD" not in {one.label for one in overall.strength_search(dataset).runs}


def test_without_a_search_a_system_has_no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("CTRLIB_RECORDS", str(tmp_path))
    with pytest.raises(RecordError):
        overall.system_run("ml-100k", "FM", 1)
