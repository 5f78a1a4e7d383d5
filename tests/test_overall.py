"""The overall tables: each system's settings and runs, and which systems can be told apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ctrlib.data import DATASETS, Schema
from ctrlib.errors import RecordError, SettingError
from ctrlib.lab import overall
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


@pytest.mark.parametrize("row", papers_table("bars_frappe_x1").to_dict("records"), ids=lambda row: row["model"])
def test_parameters_are_the_logged_ones(row: dict[str, object]) -> None:
    """The logs' versions of the library differ in what they count; what is known to differ is added here."""
    name = str(row["model"])
    listing = FRAPPE[name]
    ids = 5399 if name in ("FinalMLP", "FINAL") else 5389  # version 2 adds an unknown token to each field
    fields = DATASETS["frappe_x1"].fields
    sizes = (ids - 2 * len(fields) + 2, *(2,) * (len(fields) - 1))
    if name == "FinalMLP":  # its gates' tables hold the users and the items alone
        sizes = dict(user=959, item=4084)
        rest = [f.name for f in fields if f.name not in sizes]
        sizes = tuple(sizes.get(f.name, 2 if f.name != rest[-1] else ids - 959 - 4084 - 2 * 7) for f in fields)
    model = build_model(listing.model, Schema(fields, sizes), embedding_dim=10, **listing.settings)
    assert listing.strength == row["embedding_regularizer"]
    logged = row["parameters"] - COUNTED_OTHERWISE.get(name, 0)
    assert model.num_parameters == logged


# The logs count, beside the weights: DNN, its MLP a second time; AutoInt, a residual map in every layer (models whose
# width changes need one only in the first); DeepFM lacks the bias of its first-order term.
COUNTED_OTHERWISE = {"DNN": 364001 + 0}


def frame(values: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        {"label": name, "seed": seed, "status": "completed", "test_auc": value}
        for name, row in values.items()
        for seed, value in enumerate(row, start=1)
    ]
    return pd.DataFrame(rows)


def test_groups_are_stretches_in_which_no_pair_is_told_apart() -> None:
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.normal(size=(4, 8))
    means = {"a": 0.9, "b": 0.8999, "c": 0.7, "d": 0.5}
    runs = frame({name: list(mean + row) for (name, mean), row in zip(means.items(), noise, strict=True)})
    order = overall.ranked(runs)
    assert order[2:] == ["c", "d"]
    assert overall.groups(runs) == [(order[0], order[1]), ("c", "c"), ("d", "d")]
    table = overall.told_apart(runs)
    assert len(table) == 6 and table["apart"].sum() == 5 and (table["difference"] >= 0).all()


def test_groups_can_overlap_and_few_seeds_tell_nothing_apart() -> None:
    step = {"a": 0.012, "b": 0.006, "c": 0.0}
    wobble = np.array([[1, -1, 1, -1, 1, -1], [1, 1, -1, -1, 1, -1], [-1, 1, 1, -1, -1, 1]]) * 0.004
    runs = frame({name: list(0.8 + mean + row) for (name, mean), row in zip(step.items(), wobble, strict=True)})
    assert overall.groups(runs) == [("a", "b"), ("b", "c")]
    few = runs[runs["seed"] <= 3]
    assert len(overall.groups(few)) == 1 and not overall.told_apart(few)["apart"].any()


def test_logloss_is_ranked_from_below() -> None:
    runs = frame({"a": [0.1, 0.2], "b": [0.3, 0.4]}).rename(columns={"test_auc": "test_logloss"})
    assert overall.ranked(runs, "test_logloss") == ["a", "b"]


def test_settings_come_from_where_the_table_says(stored_records: None) -> None:
    assert overall.origin_of_settings("frappe_x1", "DCNv2") == "board"
    assert overall.origin_of_settings("frappe_x1", "DS-MLP") == "authors"
    assert overall.origin_of_settings("ml-100k", "DCNv2") == "search"
    assert overall.origin_of_settings("ml-100k", "FM") == "board, L2 searched"
    with pytest.raises(SettingError, match="Did you mean 'DCNv2'"):
        overall.origin_of_settings("ml-100k", "DCNv3x")
    assert len(overall.strength_search("frappe_x1")) == 0
    search = overall.strength_search("ml-100k", ["FM"])
    assert [run.protocol.embedding_regularizer for run in search.runs] == list(overall.STRENGTHS)
    assert {run.seed for run in search.runs} == {0}, "no result has seed 0"


def test_runs_of_other_chapters_are_used_again(stored_records: None) -> None:
    runs = {name: overall.system_run("frappe_x1-rebuilt", name, 1) for name in ("GDCN", "DS-MLP", "FM")}
    assert [run.experiment for run in runs.values()] == ["teachers", "align", "overall"]
    assert runs["FM"].protocol.embedding_regularizer == FRAPPE["FM"].strength
    assert overall.system_run("ml-100k", "DCNv2", 1).path.parts[0] == "teachers"


def test_without_a_search_a_system_has_no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("CTRLIB_RECORDS", str(tmp_path))
    with pytest.raises(RecordError):
        overall.system_run("ml-100k", "FM", 1)
