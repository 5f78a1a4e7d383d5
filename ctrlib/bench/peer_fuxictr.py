"""The other side of the epoch benchmark: FuxiCTR 2.3.10, in a Python of its own, without ctrlib.

    python peer_fuxictr.py DATASET THREADS FOLDER    prints one line of JSON

FOLDER/DATASET holds train.npz, valid.npz and feature_map.json, which `ctrlib.bench.epoch` writes. Loader, training
step, evaluation and their defaults are FuxiCTR's. The model is its CrossNetV2 with three layers and a linear head,
with as many parameters as T9 with three layers; it has no dropout, which favours this side.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from fuxictr.features import FeatureMap  # type: ignore[import-not-found]
from fuxictr.pytorch.dataloaders import RankDataLoader  # type: ignore[import-not-found]
from fuxictr.pytorch.layers import CrossNetV2, FeatureEmbedding  # type: ignore[import-not-found]
from fuxictr.pytorch.models import BaseModel  # type: ignore[import-not-found]

EMBEDDING_DIM, BATCH_SIZE, REGULARIZER = 16, 4096, 0.1


class Cross(BaseModel):  # type: ignore[misc]
    """Embedding, three cross layers, one linear map."""

    def __init__(self, feature_map: Any, **settings: Any) -> None:
        super().__init__(feature_map, embedding_regularizer=REGULARIZER, **settings)
        width = feature_map.num_fields * EMBEDDING_DIM
        self.embedding_layer = FeatureEmbedding(feature_map, EMBEDDING_DIM)
        self.cross = CrossNetV2(width, 3)
        self.fc = torch.nn.Linear(width, 1)
        self.seconds: dict[str, list[float]] = {"train": [], "evaluate": []}
        self.auc = 0.0
        self.compile("adam", "binary_crossentropy", 1e-3)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: Any) -> dict[str, torch.Tensor]:
        x = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        return {"y_pred": self.output_activation(self.fc(self.cross(x)))}

    def train_epoch(self, data_generator: Any) -> None:
        started, before = time.perf_counter(), sum(self.seconds["evaluate"])
        super().train_epoch(data_generator)
        evaluated = sum(self.seconds["evaluate"]) - before  # the library evaluates inside the epoch
        self.seconds["train"].append(time.perf_counter() - started - evaluated)

    def evaluate(self, data_generator: Any, metrics: Any = None) -> Any:
        started = time.perf_counter()
        found = super().evaluate(data_generator, metrics)
        self.seconds["evaluate"].append(time.perf_counter() - started)
        self.auc = float(found["AUC"])
        return found


def main(dataset: str, threads: int, folder: str) -> None:
    """Train two epochs; print the second one's seconds of training and of validation."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    data = Path(folder) / dataset
    feature_map = FeatureMap(dataset, str(data))
    feature_map.load(str(data / "feature_map.json"), {"embedding_dim": EMBEDDING_DIM})
    started = time.perf_counter()
    train, valid = RankDataLoader(
        feature_map,
        stage="train",
        train_data=str(data / "train.npz"),
        valid_data=str(data / "valid.npz"),
        batch_size=BATCH_SIZE,
    )
    loaded = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(Path(root) / dataset)
        model = Cross(feature_map, model_id="cross", model_root=root, metrics=["AUC", "logloss"], verbose=0)
        model.fit(train, epochs=2, validation_data=valid)
    found = {
        "model": "CrossNetV2, 3 layers",
        "parameters": sum(p.numel() for p in model.parameters()),
        "load_seconds": loaded,
        "train_seconds": model.seconds["train"][-1],
        "evaluate_seconds": model.seconds["evaluate"][-1],
        "valid_auc": model.auc,
        "batch_size": BATCH_SIZE,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "environment": {"versions": {name: version(name) for name in ("fuxictr", "torch", "polars", "numpy")}},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
