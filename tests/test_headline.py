"""Searches choose on validation rows, and chapters study QNN-alpha where the authors' log or a search says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ctrlib.errors import RecordError, SettingError
from ctrlib.lab.experiments import EXPERIMENTS, experiment_records, experiment_runs
from ctrlib.lab.headline import headline, headline_search, variants
from ctrlib.lab.search import best_search, draw_settings, search_grid, searched
from ctrlib.paths import root
from ctrlib.train import Protocol


@pytest.fixture(autouse=True)
def stored_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's own records, read only."""
    monkeypatch.setenv("CTRLIB_RECORDS", str(root() / "data" / "records"))


CHOICES = {"layers": (1, 2, 3), "rows": (1, 2), "embedding_regularizer": (0.1, 0.2)}


def test_draws_are_different_and_the_same_for_a_seed() -> None:
    drawn = draw_settings(CHOICES, 8, seed=3)
    assert drawn == draw_settings(CHOICES, 8, seed=3) != draw_settings(CHOICES, 8, seed=4)
    assert len({tuple(one.values()) for one in drawn}) == 8
    assert all(one[name] in values for one in drawn for name, values in CHOICES.items())
    assert len(draw_settings(CHOICES, 12)) == 12
    with pytest.raises(SettingError, match="allow 12"):
        draw_settings(CHOICES, 13)


def test_a_search_tells_settings_of_model_and_protocol_apart() -> None:
    systems = {"a": ("QNN-alpha", {"heads": 2}), "b": ("T19-lifted", {})}
    grid = search_grid("trial", "ml-100k", systems, dict.fromkeys(systems, CHOICES), Protocol(), count=5)
    assert len(grid) == 10 and {run.seed for run in grid.runs} == {0}
    assert {run.label for run in grid.runs} == {"search:a", "search:b"}
    for run in grid.runs:
        assert set(run.settings) - {"heads"} == {"layers", "rows", "embedding_dim"}
        assert run.protocol.embedding_regularizer in CHOICES["embedding_regularizer"]
    first, second = ([r.settings["rows"] for r in grid.runs if r.label.endswith(name)] for name in "ab")
    assert first == second, "systems of one search meet the same draws"


def record(label: str, valid: float, test: float, status: str = "completed") -> dict[str, Any]:
    scores = {"valid": {"auc": valid}, "test": {"auc": test}}
    return {"label": label, "dataset": "toy", "status": status, **scores}


def test_the_best_is_chosen_on_validation_rows() -> None:
    records = [record("search:a", 0.8, 0.7), record("search:a", 0.7, 0.9), record("search:b", 0.9, 0.9)]
    records.append({"label": "search:a", "dataset": "toy", "status": "failed"})
    assert best_search(records, "a", "toy") is records[0]
    with pytest.raises(RecordError, match="No completed search run of c on toy"):
        best_search(records, "c", "toy")


def test_frappe_has_the_settings_of_the_authors_log() -> None:
    found = headline("frappe_x1-rebuilt")
    assert {k: found.settings[k] for k in ("layers", "rows", "heads", "batch_norm", "dropout")} == {
        "layers": 2,
        "rows": 13,
        "heads": 1,
        "batch_norm": True,
        "dropout": 0.1,
    }
    assert (found.protocol.embedding_regularizer, found.protocol.min_count) == (0.1, 2)
    assert len(headline_search("frappe_x1-rebuilt")) == 0


def test_elsewhere_the_recorded_search_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = headline_search("ml-100k")
    records = searched(grid)
    best = max(range(len(grid)), key=lambda k: records[k]["valid"]["auc"])
    found = headline("ml-100k")
    assert found.protocol == grid.runs[best].protocol
    run = grid.runs[best]
    assert run.default_settings | found.settings == run.full_settings, "a record may be older than a setting"
    monkeypatch.setenv("CTRLIB_RECORDS", str(tmp_path))
    with pytest.raises(RecordError, match="12 of 12 runs of this search are not recorded"):
        headline("ml-100k")
    part = tmp_path / grid.runs[0].path
    part.parent.mkdir(parents=True)
    part.write_text(json.dumps(records[0]))
    with pytest.raises(RecordError, match="11 of 12 runs"):
        headline("ml-100k")


def test_a_cell_of_two_settings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default = headline("ml-100k")
    source = next(r for r in experiment_records("qnn-alpha", "ml-100k") if r["label"] == "hadamard")
    monkeypatch.setenv("CTRLIB_RECORDS", str(tmp_path))
    for seed, rows in ((1, 1), (2, 2)):
        path = tmp_path / "qnn-alpha" / "ml-100k" / f"cell-{rows}" / f"seed-{seed}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(source | {"seed": seed, "settings": default.settings | {"rows": rows}}))
    with pytest.raises(RecordError, match=r"'hadamard' differ in settings\.rows"):
        experiment_runs("qnn-alpha", "ml-100k")


def test_a_variant_that_changes_nothing_is_left_out() -> None:
    default = headline("frappe_x1-rebuilt")
    cells = variants(default, {"same": {"rows": 13, "product": True}, "other": {"rows": 4}, "loss": {"passes": 3}})
    assert list(cells) == ["other", "loss"]
    with pytest.raises(SettingError, match="Did you mean 'rows'"):
        variants(default, {"typo": {"row": 1}})
    assert cells["other"] == ("QNN-alpha", default.settings | {"rows": 4})


def test_every_experiment_has_its_chapter() -> None:
    for name, experiment in EXPERIMENTS.items():
        assert (root() / "chapters" / f"{experiment.chapter}.py").exists(), name
    with pytest.raises(SettingError, match="khatri-rao"):
        experiment_records("khatri-raos")


def test_result_runs_hold_no_search_and_one_run_for_each_cell_and_seed() -> None:
    for name in EXPERIMENTS:
        runs = experiment_runs(name, "ml-100k")
        if not runs.empty:
            assert not runs["label"].str.startswith("search").any(), name
            assert not runs.duplicated(["label", "seed"]).any(), name
    assert isinstance(experiment_runs("speed", "ml-100k"), pd.DataFrame)
