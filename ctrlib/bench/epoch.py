"""An epoch of ours beside an epoch of FuxiCTR: same data, batch and embedding width, models of like size.

Both sides run in processes of their own and in turn, so that a processor whose speed drifts is fair to both. Each
process trains two epochs and reports the second: the first one warms up.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ctrlib.data import DATASETS, load_dataset
from ctrlib.errors import CtrlibError, SettingError, unknown
from ctrlib.paths import cache_dir, measurements_dir
from ctrlib.train import Protocol

PEER = Path(__file__).with_name("peer_fuxictr.py")


def measure(dataset: str, repeats: int, threads: int | None, peer_python: Path | None) -> dict[str, Any]:
    """Run both sides `repeats` times in turn, write data/measurements/epoch.json and return what it holds.

    threads: per process, default all cores. Without `peer_python`, a Python that has FuxiCTR 2.3.10, only ours
    runs. Raises `SettingError` for an unknown data set, `CtrlibError` when a side fails.
    """
    if dataset not in DATASETS:
        raise unknown("data set", dataset, DATASETS)
    if repeats < 1:
        raise SettingError("repeats must be at least 1.")
    threads = threads or os.cpu_count() or 1
    folder = cache_dir() / "peers"
    if peer_python:
        export(dataset, folder / dataset)
    ours, peer = [], []
    for _ in range(repeats):
        ours.append(_run([sys.executable, "-m", "ctrlib.bench.ours", dataset, str(threads)], threads))
        if peer_python:
            peer.append(_run([str(peer_python), str(PEER), dataset, str(threads), str(folder)], threads))
    found: dict[str, Any] = {"dataset": dataset, "threads": threads, "ours": _side(ours)}
    if peer:
        found["fuxictr"] = _side(peer)
        pairs = zip(peer, ours, strict=True)
        found["ratio"] = _spread([_epoch(theirs) / _epoch(mine) for theirs, mine in pairs])
    target = measurements_dir() / "epoch.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")
    return found


def export(dataset: str, folder: Path) -> None:
    """Write the encoded data as FuxiCTR's loader reads it: one array for each field, and a feature map."""
    data = load_dataset(dataset, min_count=Protocol.named("qnn", dataset).min_count)
    schema = data.schema
    if not schema.is_flat:
        raise SettingError(f"{dataset} has a multi-valued field; the peer's side reads categorical fields only.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in (("train", data.train), ("valid", data.valid)):
        local = split.ids.numpy() - np.asarray(schema.offsets)
        columns = {field.name: local[:, k] for k, field in enumerate(schema.fields)}
        np.savez(folder / f"{name}.npz", label=split.labels.numpy(), **columns)
    features = [
        {field.name: {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size}}
        for field, size in zip(schema.fields, schema.vocab_sizes, strict=True)
    ]
    totals = {"dataset_id": dataset, "num_fields": schema.num_fields, "total_features": schema.table_rows}
    text = json.dumps(totals | {"input_length": schema.num_fields, "labels": ["label"], "features": features})
    (folder / "feature_map.json").write_text(text)


def _run(command: list[str], threads: int) -> dict[str, Any]:
    limits = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=os.environ | limits, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CtrlibError(f"The benchmark's side {command[1]} {command[2]} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _epoch(run: dict[str, Any]) -> float:
    return float(run["train_seconds"] + run["evaluate_seconds"])


def _side(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what all runs share from the last one, and the spread of what differs."""
    times = ("load_seconds", "train_seconds", "evaluate_seconds", "peak_memory_mb", "valid_auc")
    measured = {name: _spread([run[name] for run in runs]) for name in times}
    shared = {name: value for name, value in runs[-1].items() if name not in times}
    return shared | {"epoch_seconds": _spread([_epoch(run) for run in runs])} | measured


def _spread(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "repeats": len(values)}
