"""Epochs of the same system, data and batch by ctrlib, by a plain PyTorch loop and by FuxiCTR, in turn.

ctrlib has two sides, with matrix products in fp32 and in bf16.

Every side runs in a process of its own: some warm-up batches, then one epoch of training and one evaluation, which
count. The sides alternate, so that a processor whose speed drifts is fair to all; ratios are formed within a round.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctrlib.bench.ours import WARM_UP_BATCHES
from ctrlib.bench.store import checked_threads, last_line, measurement, spread, write_measurement
from ctrlib.bench.systems import System, system
from ctrlib.data import DATASETS, load_dataset
from ctrlib.errors import SettingError, unknown
from ctrlib.lab.runner import commit, environment
from ctrlib.paths import cache_dir
from ctrlib.train.fit import checked_device

HERE = Path(__file__).parent
OURS = {"ctrlib": "fp32", "ctrlib-bf16": "bf16"}  # our sides, and the precision of their products
MEASURED = ("train_seconds", "evaluate_seconds", "peak_memory_mb", "valid_auc")


def measure_peers(
    names: Sequence[str],
    dataset: str,
    repeats: int,
    threads: int | None,
    peer_python: Path | None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure the systems called `names`, add them to data/measurements/peers.json and return the whole file.

    threads: of every side, default all cores. device: of every side; on a GPU an entry's key names it. Without
    `peer_python`, a Python that has FuxiCTR 2.3.10, that side is left out. Raises `SettingError` for an unknown system
    or data set, `DeviceError` for a missing device, `CtrlibError` when a side fails.
    """
    if dataset not in DATASETS:
        raise unknown("data set", dataset, DATASETS)
    checked_device(device)
    threads = checked_threads(repeats, threads)
    found = measurement("peers")
    for one in [system(name) for name in names]:
        key = one.name if device == "cpu" else f"{one.name} ({device})"
        found[key] = _rounds(one, dataset, repeats, threads, peer_python, device)
        write_measurement("peers", found)
    return found


def _rounds(
    one: System, dataset: str, repeats: int, threads: int, peer_python: Path | None, device: str
) -> dict[str, Any]:
    folder = cache_dir() / "peers" / f"{dataset}-{one.min_count}"
    export(dataset, one, folder)
    task = {"system": one.to_dict(), "dataset": dataset, "folder": str(folder), "threads": threads, "device": device}
    commands = {
        **{ours: [sys.executable, "-m", "ctrlib.bench.ours"] for ours in OURS},
        "plain": [sys.executable, str(HERE / "plain_loop.py")],
    }
    if peer_python:
        commands["fuxictr"] = [str(peer_python), str(HERE / "peer_fuxictr.py")]
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in commands}
    for seed in range(1, repeats + 1):  # every round another seed, so that the AUC has a spread too
        for side, command in commands.items():
            asked = json.dumps(task | {"seed": seed, "side": side, "precision": OURS.get(side)})
            runs[side].append(last_line([*command, asked], threads, f"The side '{side}'"))
    found: dict[str, Any] = {
        "system": one.to_dict(),
        "dataset": dataset,
        "warm_up_batches": WARM_UP_BATCHES,
        "stand_in": False,  # all sides compute the same function
        "environment": environment(device, threads),
        "commit": commit(),
        "sides": {side: _side(those) for side, those in runs.items()},
    }
    for side, other in itertools.permutations(commands, 2):
        if other in OURS:
            pairs = list(zip(runs[side], runs[other], strict=True))
            found[f"{side}_over_{other}"] = {
                part: spread([seconds(theirs, part) / seconds(mine, part) for theirs, mine in pairs])
                for part in ("epoch", "train", "evaluate")
            }
    return found


def export(dataset: str, one: System, folder: Path) -> None:
    """Write the encoded data as FuxiCTR's loader reads it: one array for each field, and a feature map."""
    data = load_dataset(dataset, min_count=one.min_count)
    schema = data.schema
    if not schema.is_flat:
        raise SettingError(f"{dataset} has a multi-valued field; the peers' sides read categorical fields only.")
    folder.mkdir(parents=True, exist_ok=True)
    splits = {"train": data.train, "valid": data.valid, "warm": data.train.take(WARM_UP_BATCHES * one.batch_size)}
    for name, split in splits.items():
        local = split.ids.numpy() - np.asarray(schema.offsets)
        columns = {field.name: local[:, k] for k, field in enumerate(schema.fields)}
        np.savez(folder / f"{name}.npz", label=split.labels.numpy(), **columns)
    features = [
        {field.name: {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size}}
        for field, size in zip(schema.fields, schema.vocab_sizes, strict=True)
    ]
    totals = {"dataset_id": folder.name, "num_fields": schema.num_fields, "total_features": schema.table_rows}
    text = json.dumps(totals | {"input_length": schema.num_fields, "labels": ["label"], "features": features})
    (folder / "feature_map.json").write_text(text)


def seconds(run: dict[str, Any], part: str) -> float:
    """Return the seconds of a part of an epoch, or of the epoch, training and validation."""
    if part == "epoch":
        return seconds(run, "train") + seconds(run, "evaluate")
    return float(run[f"{part}_seconds"])


def _side(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what all runs share from the last one, and the spread of what differs."""
    shared = {name: value for name, value in runs[-1].items() if name not in MEASURED}
    measured = {name: spread([run[name] for run in runs]) for name in MEASURED}
    return shared | {"epoch_seconds": spread([seconds(run, "epoch") for run in runs])} | measured
