"""Records: whole or not at all, never overwritten, damage noticed and kept."""

from __future__ import annotations

import errno
import json
import os
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from ctrlib.errors import RecordError
from ctrlib.lab import records


def sample(seed: int = 1, **values: Any) -> records.Record:
    epochs = [{"epoch": 1, "train_seconds": 1.0, "evaluate_seconds": 0.5, "valid_auc": 0.7}]
    return {
        "experiment": "trial",
        "dataset": "tiny",
        "fingerprint": "0",
        "model": "T9",
        "label": "T9.none",
        "settings": {"layers": 3},
        "protocol": {"embedding_regularizer": 0.1},
        "seed": seed,
        "status": "completed",
        "test": {"auc": 0.7 + seed / 100, "logloss": 0.5},
        "epochs": epochs,
    } | values


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "trial" / "tiny" / "T9" / "seed-1.json"
    assert records.write_record(path, sample())
    assert records.read_record(path) == sample()
    assert [child.name for child in path.parent.iterdir()] == ["seed-1.json"], "no temporary file stays"


def test_an_existing_record_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "seed-1.json"
    assert records.write_record(path, sample())
    assert not records.write_record(path, sample(status="failed"))
    assert records.read_record(path)["status"] == "completed"


def write_one(arguments: tuple[Path, int]) -> bool:
    path, seed = arguments
    return records.write_record(path, sample(seed))


def test_of_two_processes_one_writes(tmp_path: Path) -> None:
    path = tmp_path / "seed-1.json"
    with get_context("spawn").Pool(2) as pool:
        written = pool.map(write_one, [(path, seed) for seed in range(20)], chunksize=1)
    assert sum(written) == 1
    assert records.read_record(path)["seed"] == written.index(True)


def test_half_a_record_is_an_error_and_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "seed-1.json"
    records.write_record(path, sample())
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(RecordError, match=r"seed-1\.json cannot be read"):
        records.read_record(path)
    kept = records.set_aside(path)
    assert kept.read_text() == text[: len(text) // 2] and not path.exists()
    path.write_text("another")
    again = records.set_aside(path)
    assert again != kept and again.read_text() == "another" and kept.read_text() == text[: len(text) // 2]


def test_a_record_without_a_key_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "seed-1.json"
    path.write_text(json.dumps({key: value for key, value in sample().items() if key != "seed"}))
    with pytest.raises(RecordError, match="lacks seed"):
        records.read_record(path)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match=r"No space left on device.*free some space"):
        records.write_record(tmp_path / "a" / "seed-1.json", sample())
    assert list((tmp_path / "a").iterdir()) == []


def test_load_and_frame(tmp_path: Path) -> None:
    for seed in (1, 2):
        records.write_record(tmp_path / "trial" / "tiny" / "T9" / f"seed-{seed}.json", sample(seed))
    failed = sample(3, status="failed", test=None, epochs=None)
    records.write_record(tmp_path / "trial" / "tiny" / "T9" / "seed-3.json", failed)
    table = records.frame(records.load_records("trial", root=tmp_path))
    assert table["seed"].tolist() == [1, 2, 3]
    assert table["test_auc"].tolist()[:2] == [0.71, 0.72] and table["test_auc"].isna()[2]
    assert table["settings.layers"].tolist() == [3, 3, 3]
    assert table["epoch_seconds"].tolist()[0] == 1.5
    assert records.load_records("other", root=tmp_path) == []
    assert list(records.frame([]).columns)[:3] == ["experiment", "dataset", "model"]
