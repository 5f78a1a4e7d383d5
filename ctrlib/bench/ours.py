"""One side of the benchmark: ctrlib, in a process of its own.

python -m ctrlib.bench.ours JSON    prints one line of JSON
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

from ctrlib.bench.systems import System
from ctrlib.data import load_dataset
from ctrlib.lab.runner import peak_memory_mb
from ctrlib.models import build_model
from ctrlib.train import Protocol
from ctrlib.train.fit import Trainer, drained

WARM_UP_BATCHES = 10


def protocol(system: System, precision: str = "fp32") -> Protocol:
    """Return the protocol of the measured epoch."""
    return Protocol(
        batch_size=system.batch_size,
        embedding_regularizer=system.regularizer,
        embedding_dim=system.width,
        min_count=system.min_count,
        max_epochs=1,
        precision=precision,
    )


def main(task: dict[str, Any]) -> None:
    """Train the warm-up batches and then one epoch; print seconds of training and of validation."""
    torch.set_num_threads(task["threads"])
    system = System(**task["system"])
    device = torch.device(task["device"])
    data = load_dataset(task["dataset"], min_count=system.min_count).to(device)
    model = build_model(system.model, data.schema, seed=task["seed"], embedding_dim=system.width, **system.settings)
    run = Trainer(model, data, protocol(system, task["precision"]), task["seed"], device)
    model.train()
    for start in range(0, WARM_UP_BATCHES * system.batch_size, system.batch_size):
        rows = slice(start, start + system.batch_size)
        run.step(data.train.ids[rows], data.train.labels[rows])
    epoch = run.finish_epoch(drained(run.start_epoch()))
    found = {
        "side": task["side"],
        "parameters": model.num_parameters,
        "train_seconds": epoch.train_seconds,
        "evaluate_seconds": epoch.evaluate_seconds,
        "valid_auc": epoch.valid_auc,
        "peak_memory_mb": peak_memory_mb(task["device"]),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
