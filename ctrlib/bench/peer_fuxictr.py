"""One side of the benchmark: FuxiCTR 2.3.10, in a Python of its own, without ctrlib.

    python peer_fuxictr.py JSON    prints one line of JSON

It reads the arrays that `ctrlib.bench.peers` exports. Loader, training step, evaluation and their defaults are
FuxiCTR's, and so are the layers of DNN and DCNv2. The library has neither T9, which is written out in plain PyTorch,
nor QNN-alpha, whose layer is the released one.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from fuxictr.features import FeatureMap  # type: ignore[import-not-found]
from fuxictr.pytorch.dataloaders import RankDataLoader  # type: ignore[import-not-found]
from fuxictr.pytorch.layers import CrossNetV2, FeatureEmbedding, MLP_Block  # type: ignore[import-not-found]
from fuxictr.pytorch.models import BaseModel  # type: ignore[import-not-found]
from plain_loop import peak_memory_mb  # type: ignore[import-not-found]
from plain_networks import network, self_ensemble  # type: ignore[import-not-found]
from torch import Tensor, nn


class Crossed(nn.Module):
    """FuxiCTR's cross network beside its MLP, and one affine map."""

    def __init__(self, width: int, layers: int, hidden: list[int]) -> None:
        super().__init__()
        self.cross = CrossNetV2(width, layers)
        self.mlp = MLP_Block(width, hidden)
        self.head = nn.Linear(width + hidden[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.cat([self.cross(x), self.mlp(x)], dim=-1))
        return out


def library_network(system: dict[str, Any], num_fields: int) -> nn.Module:
    """Return the system's network of FuxiCTR's layers where it has them."""
    width, settings = num_fields * system["width"], system["settings"]
    match system["name"]:
        case "DCNv2":
            return Crossed(width, settings["cross_layers"], settings["hidden_units"])
        case "DNN":
            block: nn.Module = MLP_Block(width, settings["hidden_units"], output_dim=1)
            return block
    plain: nn.Module = network(system, num_fields)
    return plain


class Model(BaseModel):  # type: ignore[misc]
    """Embedding and network, with the seconds that training and evaluation take."""

    def __init__(self, feature_map: Any, system: dict[str, Any], **settings: Any) -> None:
        super().__init__(feature_map, embedding_regularizer=system["regularizer"], **settings)
        self.system = system
        self.embedding_layer = FeatureEmbedding(feature_map, system["width"])
        self.network = library_network(system, feature_map.num_fields)
        self.seconds: dict[str, list[float]] = {"train": [], "evaluate": []}
        self.saving = 0.0
        self.auc = 0.0
        self.compile("adam", "binary_crossentropy", 1e-3)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: Any) -> dict[str, Tensor]:
        x = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        found = {"y_pred": self.output_activation(self.network(x))}
        if self.training and self.system["name"] == "QNN-alpha":
            found["second"] = self.output_activation(self.network(x))
        return found

    def add_loss(self, return_dict: dict[str, Tensor], y_true: Tensor) -> Tensor:
        if "second" in return_dict:
            loss: Tensor = self_ensemble(return_dict["y_pred"], return_dict["second"], y_true)
        else:
            loss = super().add_loss(return_dict, y_true)
        return loss

    def train_epoch(self, data_generator: Any) -> None:
        started, before = time.perf_counter(), sum(self.seconds["evaluate"])
        self.saving = 0.0
        super().train_epoch(data_generator)
        evaluated = sum(self.seconds["evaluate"]) - before  # the library evaluates inside the epoch
        self.seconds["train"].append(time.perf_counter() - started - evaluated - self.saving)

    def checkpoint_and_earlystop(self, *arguments: Any, **options: Any) -> None:
        """Writing weights to the disk is not training."""
        started = time.perf_counter()
        super().checkpoint_and_earlystop(*arguments, **options)
        self.saving += time.perf_counter() - started

    def evaluate(self, data_generator: Any, metrics: Any = None) -> Any:
        started = time.perf_counter()
        found = super().evaluate(data_generator, metrics)
        self.seconds["evaluate"].append(time.perf_counter() - started)
        self.auc = float(found["AUC"])
        return found


def main(task: dict[str, Any]) -> None:
    """Train the warm-up batches and then one epoch; print seconds of training and of validation."""
    torch.set_num_threads(task["threads"])
    torch.manual_seed(task["seed"])
    system, data = task["system"], Path(task["folder"])
    feature_map = FeatureMap(data.name, str(data))
    feature_map.load(str(data / "feature_map.json"), {"embedding_dim": system["width"]})
    files = {"valid_data": str(data / "valid.npz"), "batch_size": system["batch_size"], "stage": "train"}
    warm, valid = RankDataLoader(feature_map, train_data=str(data / "warm.npz"), **files)
    train, valid = RankDataLoader(feature_map, train_data=str(data / "train.npz"), **files)
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(Path(root) / data.name)
        on_gpu = task["device"].startswith("cuda")
        options = {"gpu": torch.device(task["device"]).index or 0 if on_gpu else -1, "verbose": 0}
        model = Model(feature_map, system, model_id="m", model_root=root, metrics=["AUC", "logloss"], **options)
        model.fit(warm, epochs=1, validation_data=valid)
        model._eval_steps = None  # it was set from the warm-up's length
        model.fit(train, epochs=1, validation_data=valid)
    found = {
        "side": "FuxiCTR " + version("fuxictr"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_seconds": model.seconds["train"][-1],
        "evaluate_seconds": model.seconds["evaluate"][-1],
        "valid_auc": model.auc,
        "peak_memory_mb": peak_memory_mb(task["device"]),
        "versions": {name: version(name) for name in ("fuxictr", "torch", "polars", "numpy")},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
