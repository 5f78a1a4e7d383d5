"""What only a GPU can show: recorded steps, resumed runs and runs side by side against plain ones."""

from __future__ import annotations

import gc
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ctrlib import CTRClassifier
from ctrlib.bench import epochs, store
from ctrlib.data import CTRDataset, synthetic_dataset
from ctrlib.lab import Grid, run_grid, runner
from ctrlib.lab.grid import interleaved
from ctrlib.models import build_model
from ctrlib.train import FitResult, Protocol, fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: nothing here can run")

PROTOCOL = Protocol(batch_size=256, max_epochs=4, embedding_dim=16, embedding_regularizer=1e-3)
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "T9": ("T9", {}),
    "QNN-alpha": ("QNN-alpha", {"rows": 3}),
    "DCNv2": ("DCNv2", {"hidden_units": [64, 64]}),
}


@pytest.fixture(scope="module")
def data() -> CTRDataset:
    """2,700 training rows: ten whole batches and a short one."""
    return synthetic_dataset((2700, 500, 500), [50] * 10, seed=1)


def trained(system: str, data: CTRDataset, *, captured: bool = True, **options: Any) -> FitResult:
    name, settings = SYSTEMS[system]
    model = build_model(name, data.schema, seed=1, **settings)
    model.capturable = captured
    return fit(model, data, options.pop("protocol", PROTOCOL), seed=1, device="cuda", **options)


@pytest.mark.parametrize("system", SYSTEMS)
def test_recorded_steps_have_the_bits_of_plain_ones(system: str, data: CTRDataset) -> None:
    replayed, plain = trained(system, data), trained(system, data, captured=False)
    assert [e.train_loss for e in replayed.epochs] == [e.train_loss for e in plain.epochs]
    assert replayed.test == plain.test


def test_a_resumed_run_follows_the_schedule(data: CTRDataset, tmp_path: Path) -> None:
    """The rate falls after every epoch here; a run that was stopped in between must see it fall too."""
    falling = PROTOCOL.replace(min_delta=1.0, patience=9)
    straight = trained("T9", data, protocol=falling)
    path = tmp_path / "run.pt"
    trained("T9", data, protocol=falling.replace(max_epochs=2), checkpoint_path=path)
    resumed = trained("T9", data, protocol=falling, checkpoint_path=path)
    assert [e.learning_rate for e in resumed.epochs] == [e.learning_rate for e in straight.epochs]
    assert [e.train_loss for e in resumed.epochs] == [e.train_loss for e in straight.epochs]


def test_runs_side_by_side_have_the_records_of_runs_alone(
    data: CTRDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "dataset", lambda name, *others: data)
    grid = Grid("trial").add("ml-100k", SYSTEMS, PROTOCOL, [1, 2])
    alone = run_grid(grid, root=tmp_path, device="cuda", jobs=1, progress=False)
    together = {}
    for run, record in interleaved(grid.runs, "cuda", 3):
        together[run.label, run.seed] = record
        gc.collect()
    for record in alone:
        other = together[record["label"], record["seed"]]
        assert all(other[name] == record[name] for name in ("valid", "test", "best_epoch"))


def test_epochs_are_measured_on_the_gpu(data: CTRDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "measurements_dir", lambda: tmp_path)
    monkeypatch.setattr(epochs, "CRITEO", replace(epochs.CRITEO, batch_size=50, width=2))
    monkeypatch.setattr(epochs, "criteo_shaped", partial(epochs.criteo_shaped, scale=1e-4))
    monkeypatch.setattr(epochs, "SEEDS", 3)
    monkeypatch.setattr(runner, "dataset", lambda name, *others: data)
    found = epochs.measure_epochs(epochs.GROUPS, 2, 1, "cuda", rows=4000, dataset="ml-100k")
    criteo, seeds = found["criteo (cuda, 1 threads)"], found["seeds (cuda, 1 threads)"]
    assert criteo["environment"]["device_name"] == torch.cuda.get_device_name()
    assert 0 < criteo["evaluate_share"]["median"] < 1 and criteo["peak_memory_mb"] > 0
    assert seeds["all_over_one"]["median"] > 0


def test_a_classifier_trained_on_a_gpu_predicts_on_a_cpu(tmp_path: Path) -> None:
    draw = np.random.RandomState(0)
    X = pd.DataFrame({"a": draw.randint(0, 9, 500), "b": draw.rand(500)})
    model = CTRClassifier("QNN-alpha", {"rows": 2}, max_epochs=2, device="cuda", random_state=1)
    model.fit(X, (X["a"] + draw.randint(0, 9, 500) > 8).astype(int)).save(tmp_path / "model.safetensors")
    again = CTRClassifier.load(tmp_path / "model.safetensors")
    assert np.allclose(again.predict_proba(X), model.predict_proba(X), atol=1e-5)
