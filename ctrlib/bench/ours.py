"""One side of the epoch benchmark: a T9 epoch of ctrlib, in a process of its own.

python -m ctrlib.bench.ours DATASET THREADS    prints one line of JSON
"""

from __future__ import annotations

import json
import sys
import time

import torch

from ctrlib.data import load_dataset
from ctrlib.lab.runner import environment, peak_memory_mb
from ctrlib.models import build_model
from ctrlib.train import Protocol, fit
from ctrlib.train.fit import Epoch

WARM_UP = 1  # epochs that are not counted


def main(dataset: str, threads: int) -> None:
    """Train T9 for a warm-up epoch and one that counts; print seconds of training and of validation."""
    torch.set_num_threads(threads)
    protocol = Protocol.named("qnn", dataset, max_epochs=WARM_UP + 1)
    started = time.perf_counter()
    data = load_dataset(dataset, min_count=protocol.min_count)
    loaded = time.perf_counter() - started
    model = build_model("T9", data.schema, seed=1, embedding_dim=protocol.embedding_dim)
    epochs: list[Epoch] = []
    fit(model, data, protocol, seed=1, on_epoch=epochs.append)
    last = epochs[-1]
    found = {
        "model": "T9, 3 layers",
        "parameters": model.num_parameters,
        "load_seconds": loaded,
        "train_seconds": last.train_seconds,
        "evaluate_seconds": last.evaluate_seconds,
        "valid_auc": last.valid_auc,
        "rows": data.rows,
        "batch_size": protocol.batch_size,
        "peak_memory_mb": peak_memory_mb("cpu"),
        "environment": environment("cpu", threads),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
