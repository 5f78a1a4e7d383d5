"""One side of the benchmark: ctrlib, in a process of its own.

python -m ctrlib.bench.ours JSON    prints one line of JSON
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from typing import Any

import torch

from ctrlib.bench.systems import System
from ctrlib.data import CTRDataset, Split, load_dataset
from ctrlib.lab.runner import peak_memory_mb
from ctrlib.models import build_model
from ctrlib.train import Protocol, fit
from ctrlib.train.fit import Epoch

WARM_UP_BATCHES = 10


def protocol(system: System) -> Protocol:
    """Return the protocol of the measured epoch."""
    return Protocol(
        batch_size=system.batch_size,
        embedding_regularizer=system.regularizer,
        embedding_dim=system.width,
        min_count=system.min_count,
        max_epochs=1,
    )


def main(task: dict[str, Any]) -> None:
    """Train the warm-up batches and then one epoch; print seconds of training and of validation."""
    torch.set_num_threads(task["threads"])
    system = System(**task["system"])
    data = load_dataset(task["dataset"], min_count=system.min_count)
    model = build_model(system.model, data.schema, seed=1, embedding_dim=system.width, **system.settings)
    started = time.perf_counter()
    warm = data.train.take(WARM_UP_BATCHES * system.batch_size)
    fit(model, _with_train(data, warm), protocol(system), seed=2)
    epochs: list[Epoch] = []
    fit(model, data, protocol(system), seed=1, on_epoch=epochs.append)
    last = epochs[-1]
    found = {
        "side": "ctrlib",
        "parameters": model.num_parameters,
        "train_seconds": last.train_seconds,
        "evaluate_seconds": last.evaluate_seconds,
        "valid_auc": last.valid_auc,
        "warm_up_seconds": time.perf_counter() - started - last.train_seconds - last.evaluate_seconds,
        "peak_memory_mb": peak_memory_mb("cpu"),
    }
    print(json.dumps(found))


def _with_train(data: CTRDataset, train: Split) -> CTRDataset:
    return replace(data, train=train)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
