"""One side of the benchmark: a plain PyTorch loop with a DataLoader, in a process of its own.

    python plain_loop.py JSON    prints one line of JSON

It reads the arrays that `ctrlib.bench.peers` exports, and imports nothing of ctrlib: one embedding for each field,
the framework's own dropout and Adam, the penalty as a term of the loss, the library's AUC.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_networks import network, self_ensemble  # type: ignore[import-not-found]
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

WARM_UP_BATCHES = 10


class Model(nn.Module):
    """Embeddings, network, sigmoid."""

    def __init__(self, system: dict[str, Any], vocab_sizes: list[int]) -> None:
        super().__init__()
        tables = [nn.Embedding(size, system["width"], padding_idx=0) for size in vocab_sizes]
        self.tables = nn.ModuleList(tables)
        self.network = network(system, len(vocab_sizes))
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_normal_(part.weight)
                nn.init.zeros_(part.bias)
        for table in tables:
            nn.init.normal_(table.weight, std=1e-4)

    def embed(self, ids: Tensor) -> Tensor:
        return torch.cat([table(ids[:, k]) for k, table in enumerate(self.tables)], dim=1)

    def head(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.network(x)).squeeze(1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embed(ids))


def batches(loader: Any, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches on the device."""
    for ids, labels in loader:
        yield ids.to(device), labels.to(device)


def train(model: Model, loader: Any, optimiser: Any, system: dict[str, Any]) -> None:
    """Train one epoch."""
    model.train()
    device = next(model.parameters()).device
    for ids, labels in batches(loader, device):
        optimiser.zero_grad()
        if system["name"] == "QNN-alpha":
            x = model.embed(ids)  # both passes share the look-up
            loss = self_ensemble(model.head(x), model.head(x), labels)
        else:
            loss = nn.functional.binary_cross_entropy(model(ids), labels)
        for weight in model.tables.parameters():
            loss = loss + system["regularizer"] / 2 * weight.norm() ** 2
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
    if device.type == "cuda":
        torch.cuda.synchronize()


@torch.no_grad()
def evaluate(model: Model, loader: Any) -> float:
    """Return the AUC."""
    model.eval()
    device = next(model.parameters()).device
    found = [(model(ids).cpu(), labels.cpu()) for ids, labels in batches(loader, device)]
    return float(roc_auc_score(torch.cat([y for _, y in found]), torch.cat([p for p, _ in found])))


def peak_memory_mb(device: str) -> float:
    """Return the peak memory of the GPU's allocator, or of this process, in MB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load(folder: Path, name: str) -> tuple[TensorDataset, list[int]]:
    """Return a split as a data set, and the size of each field."""
    shape = json.loads((folder / "feature_map.json").read_text())["features"]
    columns = np.load(folder / f"{name}.npz")
    names = [next(iter(feature)) for feature in shape]
    ids = torch.from_numpy(np.stack([columns[field] for field in names], axis=1)).long()
    sizes = [feature[name]["vocab_size"] for feature, name in zip(shape, names, strict=True)]
    return TensorDataset(ids, torch.from_numpy(columns["label"]).float()), sizes


def main(task: dict[str, Any]) -> None:
    """Train the warm-up batches and then one epoch; print seconds of training and of validation."""
    torch.set_num_threads(task["threads"])
    torch.manual_seed(task["seed"])
    system, folder = task["system"], Path(task["folder"])
    rows, sizes = load(folder, "train")
    warm, _ = load(folder, "warm")
    valid, _ = load(folder, "valid")
    model = Model(system, sizes).to(task["device"])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    train(model, DataLoader(warm, system["batch_size"], shuffle=True), optimiser, system)
    started = time.perf_counter()
    train(model, DataLoader(rows, system["batch_size"], shuffle=True), optimiser, system)
    trained = time.perf_counter()
    auc = evaluate(model, DataLoader(valid, system["batch_size"]))
    found = {
        "side": "plain PyTorch loop",
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_seconds": trained - started,
        "evaluate_seconds": time.perf_counter() - trained,
        "valid_auc": auc,
        "peak_memory_mb": peak_memory_mb(task["device"]),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
