"""From a run to its record."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Generator, Mapping
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ctrlib.data import CTRDataset, load_dataset
from ctrlib.errors import DeviceError
from ctrlib.lab.records import Record
from ctrlib.lab.run import SPLIT_SEED, Run
from ctrlib.models import build_model
from ctrlib.paths import cache_dir, root
from ctrlib.train import NUMERICS, FitResult, TrainingError, save_weights, start_from
from ctrlib.train.fit import checked_device, drained, fit_epochs, out_of_memory_explained

if TYPE_CHECKING:
    from ctrlib.classifier import CTRClassifier

VERSIONS = ("torch", "numpy", "pandas", "scikit-learn", "numba")  # the last is optional
TF32_OVERRIDE = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"  # environment: with 1, matrix products are in TF32 all the same


def checkpoints_dir() -> Path:
    """Return the folder in which runs of a grid leave their checkpoints, to go on after they were cut off."""
    return cache_dir() / "checkpoints"


def weights_path(run: Run, folder: Path | None = None) -> Path:
    """Return where a run leaves its weights if it keeps them: by default in the cache."""
    return (folder or cache_dir() / "weights") / run.path.with_suffix(".safetensors")


def make_record(
    run: Run,
    *,
    device: str = "cpu",
    threads: int = 1,
    checkpoints: Path | None = None,
    weights: Path | None = None,
) -> Record:
    """Train and score one run; return its record, with status "failed" and the reason when training broke down.

    checkpoints: the folder to go on from and to write to; None makes the run from its start. weights: the folder with
    the weights that the run starts from or leaves, by default in the cache. Other errors, of data, device or disk, are
    raised: they are not a property of the run.
    """
    return drained(record_epochs(run, device=device, threads=threads, checkpoints=checkpoints, weights=weights))


def record_epochs(
    run: Run,
    *,
    device: str = "cpu",
    threads: int = 1,
    checkpoints: Path | None = None,
    weights: Path | None = None,
) -> Generator[None, None, Record]:
    """Do what `make_record` does, and yield after each epoch's work has been handed to the device."""
    if checked_device(device).type == "cuda":
        if os.environ.get(TF32_OVERRIDE) == "1":
            raise DeviceError(f"{TF32_OVERRIDE} is 1, but records are in fp32. Unset it and start again.")
        torch.cuda.reset_peak_memory_stats(device)
    torch.set_float32_matmul_precision("highest")  # no TF32, and no bf16 on a CPU, whatever was set before
    torch.set_num_threads(threads)
    initial, order, split = run.seeds
    data = dataset(run.dataset, run.protocol.min_count, run.rows, split)
    checkpoint_path = checkpoints / run.path.with_suffix(".pt") if checkpoints else None
    record = _header(run, data, device, threads)
    try:
        with out_of_memory_explained():
            model = build_model(run.model, data.schema, seed=initial, **run.settings)
        for parent in run.parents:
            start_from(model, weights_path(parent, weights), data)
        kind = device.split(":")[0]  # a random stream's state belongs to a kind of device
        identity = run.identity | {"fingerprint": data.fingerprint, "numerics": NUMERICS, "device": kind}
        result = yield from fit_epochs(
            model,
            data,
            run.protocol,
            seed=order,
            device=device,
            checkpoint_path=checkpoint_path,
            identity=identity,
        )
    except TrainingError as error:
        return record | {"status": "failed", "error": str(error)}
    if run.keep:
        scores = {"valid": result.valid.to_dict(), "test": result.test.to_dict(), "parent": run.parent_path}
        save_weights(weights_path(run, weights), model, data, seed=run.seed, **scores)
    if checkpoint_path:
        checkpoint_path.unlink(missing_ok=True)
    return record | _scores(result, device)


@lru_cache(maxsize=2)
def dataset(name: str, min_count: int, rows: int | None, split_seed: int = SPLIT_SEED) -> CTRDataset:
    """Return the data set, kept in memory for the next run of this process."""
    return load_dataset(name, min_count=min_count, rows=rows, split_seed=split_seed)


def _header(run: Run, data: CTRDataset, device: str, threads: int) -> Record:
    return {
        "experiment": run.experiment,
        "dataset": run.dataset,
        "rows": run.rows,
        "fingerprint": data.fingerprint,
        "model": run.model,
        "label": run.label,
        "settings": run.full_settings,
        "protocol": run.protocol.to_dict(),
        "seed": run.seed,
        "vary": run.vary,
        "parent": run.parent_path,
        "status": "completed",
        "error": None,
    } | _made(device, threads, run.protocol.precision)


def classifier_record(
    experiment: str, label: str, classifier: CTRClassifier, data: CTRDataset, test: Mapping[str, float]
) -> Record:
    """Return the record of a classifier that this process has trained, for the end of its page; nobody stores it.

    classifier: fitted, with a whole number as random_state. data: its whole table, as `load_table` gives it, for the
    fingerprint. test: "auc" (a fraction) and "logloss" (nats) on rows set aside. Of several stages the last is told.
    """
    return {
        "experiment": experiment,
        "dataset": data.name,
        "fingerprint": data.fingerprint,
        "model": classifier.model,
        "label": label,
        "settings": json.loads(json.dumps(dataclasses.asdict(classifier.model_.settings))),  # lists, as in a file
        "protocol": classifier.protocol_.to_dict(),
        "seed": classifier.random_state,
        "status": "completed",
        "parameters": classifier.model_.num_parameters,
        "valid": classifier.validation_scores_.to_dict(),
        "test": dict(test),
        "best_epoch": classifier.best_epoch_,
        "epochs": [dataclasses.asdict(epoch) for epoch in classifier.epochs_],
    } | _made(classifier.device, torch.get_num_threads(), classifier.protocol_.precision)


def _made(device: str, threads: int, precision: str) -> Record:
    """Return what a record says of how and when it was made."""
    return {
        "environment": environment(device, threads, precision),
        "numerics": NUMERICS,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _scores(result: FitResult, device: str) -> Record:
    return {
        "parameters": result.parameters,
        "train": result.train.to_dict() if result.train else None,
        "valid": result.valid.to_dict(),
        "test": result.test.to_dict(),
        "best_epoch": result.best_epoch,
        "seconds": {name: round(value, 3) for name, value in result.seconds.items()},
        "samples_per_second": round(result.samples_per_second, 1),
        "peak_memory_mb": peak_memory_mb(device),
        "epochs": [_rounded(dataclasses.asdict(epoch)) for epoch in result.epochs],
    }


def _rounded(epoch: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) if name.endswith("seconds") else value for name, value in epoch.items()}


def environment(device: str, threads: int, precision: str = "fp32") -> dict[str, Any]:
    """Return device, its name, precision of matrix products, threads and versions."""
    versions = {name: version(name) for name in VERSIONS if name != "numba" or find_spec(name)} | {
        "python": platform.python_version()
    }
    return {
        "device": device,
        "device_name": device_name(device),
        "precision": precision,
        "threads": threads,
        "versions": versions,
    }


@cache
def device_name(device: str) -> str:
    """Return the processor's or the GPU's name as the system tells it."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def peak_memory_mb(device: str) -> float:
    """Return the peak memory in MB: of the GPU's allocator, or of this process so far."""
    if device.startswith("cuda"):
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


@cache
def commit() -> str | None:
    """Return the checkout's commit, with "+" when ctrlib differs from it, or None outside a checkout."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--", "ctrlib") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root(), capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()
