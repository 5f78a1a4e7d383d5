"""Whole epochs: QNN-alpha in Criteo's shape, and several seeds of a short run side by side against one alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ctrlib.bench.ours import protocol
from ctrlib.bench.store import checked_threads, measurement, spread, write_measurement
from ctrlib.bench.systems import SYSTEMS, System
from ctrlib.data import DATASETS, CTRDataset, Split, criteo_shaped
from ctrlib.errors import SettingError, unknown
from ctrlib.lab import runner
from ctrlib.lab.grid import interleaved
from ctrlib.lab.run import SPLIT_SEED, Run
from ctrlib.lab.runner import commit, environment, peak_memory_mb
from ctrlib.models import build_model
from ctrlib.train.fit import Trainer, checked_device, drained

GROUPS = ("criteo", "criteo-bf16", "seeds")
TRAINING_ROWS = 36_672_493  # of Criteo_x4, whose validation split is an eighth of that
DRAWN_ROWS = 1 << 20  # training rows that are drawn; a longer epoch sees them several times
WARM_UP_STEPS = 5
SEEDS, EPOCHS = 10, 3  # side by side, and epochs of each
CRITEO = System(
    "QNN-alpha",
    "QNN-alpha",
    {"layers": 4, "rows": 5, "batch_norm": True, "loss": "self-ensemble", "passes": 2},
    regularizer=0.01,
    batch_size=10_000,
)


def measure_epochs(
    groups: Sequence[str],
    repeats: int,
    threads: int | None,
    device: str = "cpu",
    *,
    rows: int = TRAINING_ROWS,
    dataset: str = "frappe_x1-rebuilt",
) -> dict[str, Any]:
    """Measure the epochs of some groups, add them to data/measurements/epochs.json and return the whole file.

    "criteo" is an epoch of `rows` training rows with its validation in Criteo's shape; the rows are made up.
    "criteo-bf16" is the same with matrix products in bf16. "seeds" is a run of QNN-alpha on `dataset`, `EPOCHS` epochs
    with all scores, by one seed alone and by `SEEDS` seeds side by side. Raises `SettingError` for an unknown group or
    data set and for fewer rows than two batches, `DeviceError` for a missing device.
    """
    for group in groups:
        if group not in GROUPS:
            raise unknown("group of epochs", group, GROUPS)
    if dataset not in DATASETS:
        raise unknown("data set", dataset, DATASETS)
    if rows < 2 * CRITEO.batch_size:
        raise SettingError(f"rows is {rows}; an epoch needs at least two batches of {CRITEO.batch_size} rows.")
    checked_device(device)
    threads = checked_threads(repeats, threads)
    torch.set_num_threads(threads)
    found = measurement("epochs")
    for group in groups:
        precision = "bf16" if group == "criteo-bf16" else "fp32"
        values = (
            measure_seeds(dataset, repeats, device)
            if group == "seeds"
            else measure_criteo(rows, repeats, device, precision)
        )
        where = {"environment": environment(device, threads, precision), "commit": commit()}
        found[f"{group} ({device}, {threads} threads)"] = {"group": group, **values, **where}
        write_measurement("epochs", found)
    return found


def measure_criteo(rows: int, repeats: int, device: str, precision: str) -> dict[str, Any]:
    """Return seconds of training and of validation of epochs in Criteo's shape, and the validation's share."""
    data = criteo_rows(rows).to(device)
    model = build_model(CRITEO.model, data.schema, seed=1, embedding_dim=CRITEO.width, **CRITEO.settings)
    run = Trainer(model, data, protocol(CRITEO, precision), 1, torch.device(device))
    model.train()
    for _ in range(WARM_UP_STEPS):
        run.step(data.train.ids[: CRITEO.batch_size], data.train.labels[: CRITEO.batch_size])
    epochs = [run.finish_epoch(drained(run.start_epoch())) for _ in range(repeats)]
    run.close()
    whole = [epoch.train_seconds + epoch.evaluate_seconds for epoch in epochs]
    return {
        "system": CRITEO.to_dict(),
        "rows": len(data.train),
        "evaluate_rows": len(data.valid),
        "epoch_seconds": spread(whole),
        "train_seconds": spread([epoch.train_seconds for epoch in epochs]),
        "evaluate_seconds": spread([epoch.evaluate_seconds for epoch in epochs]),
        "evaluate_share": spread([epoch.evaluate_seconds / all_ for epoch, all_ in zip(epochs, whole, strict=True)]),
        "peak_memory_mb": peak_memory_mb(device),
    }


def criteo_rows(rows: int) -> CTRDataset:
    """Return made-up data of Criteo's fields and table with so many training rows, an eighth for validation."""
    data = criteo_shaped((min(rows, DRAWN_ROWS), min(rows, DRAWN_ROWS) // 8, 16))
    return replace(data, train=_repeated(data.train, rows), valid=_repeated(data.valid, rows // 8))


def _repeated(split: Split, rows: int) -> Split:
    times = -(-rows // len(split))
    return Split(split.ids.repeat(times, 1), split.labels.repeat(times)).take(rows)


def measure_seeds(dataset: str, repeats: int, device: str) -> dict[str, Any]:
    """Return seconds of one seed alone and of several side by side in this process, and their ratio in each round."""
    system = SYSTEMS["QNN-alpha"]
    settings = {"embedding_dim": system.width, **system.settings}
    length = protocol(system).replace(max_epochs=EPOCHS, patience=EPOCHS)  # all seeds train equally long
    runs = [Run("bench", dataset, system.name, system.model, settings, length, seed) for seed in range(1, SEEDS + 1)]
    threads = torch.get_num_threads()
    runner.dataset(dataset, system.min_count, None, SPLIT_SEED)  # read before the clock starts

    def seconds(some: list[Run]) -> float:
        started = time.perf_counter()
        for _, record in interleaved(some, device, len(some), threads):
            assert record["status"] == "completed", record
        return time.perf_counter() - started

    seconds(runs[:1])  # warms up
    rounds = [(seconds(runs[:1]), seconds(runs)) for _ in range(repeats)]
    return {
        "system": system.to_dict(),
        "dataset": dataset,
        "seeds": SEEDS,
        "epochs": EPOCHS,
        "one_seconds": spread([one for one, _ in rounds]),
        "all_seconds": spread([together for _, together in rounds]),
        "all_over_one": spread([together / one for one, together in rounds]),
    }
