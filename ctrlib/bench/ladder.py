"""From a plain loop to ctrlib, one change at a time: seconds of a batch of QNN-alpha after each.

python -m ctrlib.bench.ladder RUNG THREADS    prints the seconds of a batch
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ctrlib.bench import plain_networks
from ctrlib.bench.store import checked_threads, last_line, spread, write_measurement
from ctrlib.bench.systems import SYSTEMS
from ctrlib.data import CTRDataset, Schema, load_dataset
from ctrlib.lab.runner import commit, environment
from ctrlib.layers import Dropout, FieldEmbedding
from ctrlib.layers.embedding import INITIAL_STD
from ctrlib.models import build_model
from ctrlib.train import Protocol
from ctrlib.train.allocator import keep_freed_memory
from ctrlib.train.fit import Trainer
from ctrlib.train.optimiser import ClippedAdam

SYSTEM = SYSTEMS["QNN-alpha"]
RUNGS = [
    "plain loop",
    "tensors in memory, one gather",
    "one table for all fields",
    "the framework's fused Adam",
    "penalty and clipping in Adam's pass",
    "freed memory kept",
    "dropout from random words",
    "rows summed before the product",
    "first layer shared, compiled loops",
]


class Plain(nn.Module):
    """The plain network of `ctrlib.bench.plain_networks` behind a table for each field, or one for all."""

    def __init__(self, schema: Schema, *, one_table: bool, words: bool, sum_first: bool) -> None:
        super().__init__()
        self.one = FieldEmbedding(schema, SYSTEM.width) if one_table else None
        sizes = [] if one_table else schema.vocab_sizes
        self.tables = nn.ModuleList(nn.Embedding(size, SYSTEM.width) for size in sizes)
        with torch.no_grad():
            for table in self.embeddings():  # as in the other sides of the benchmark
                table.normal_(std=INITIAL_STD)
        self.network = plain_networks.network(SYSTEM.to_dict(), schema.num_fields)
        if words:
            _replace_dropout(self.network)
        if sum_first:
            self.network.forward = partial(_summed_first, self.network)  # type: ignore[method-assign, arg-type]

    def embed(self, ids: Tensor) -> Tensor:
        """Return the joined embeddings (B, d). Separate tables take a field's own row numbers."""
        if self.one is not None:
            joined: Tensor = self.one(ids).flatten(1)
            return joined
        return torch.cat([table(ids[:, k]) for k, table in enumerate(self.tables)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.network(x)).squeeze(1)

    def embeddings(self) -> list[nn.Parameter]:
        """Parameters of the tables."""
        return [*self.tables.parameters(), *(self.one.parameters() if self.one is not None else [])]


def _replace_dropout(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Dropout):
            setattr(module, name, Dropout(child.p))
        else:
            _replace_dropout(child)


def _summed_first(network: plain_networks.QNNAlpha, x: Tensor) -> Tensor:
    for gate in network.gates:
        x = network.dropout(x * gate(x).view(len(x), network.rows, -1).sum(dim=1) + x)
    out: Tensor = network.head(x)
    return out


def batches_of_rung(rung: int, data: CTRDataset) -> Iterator[Callable[[], Any]]:
    """Yield functions that each train one batch, loading included."""
    train = data.train
    if rung == len(RUNGS) - 1:
        model = build_model(SYSTEM.model, data.schema, seed=1, embedding_dim=SYSTEM.width, **SYSTEM.settings)
        protocol = Protocol(batch_size=SYSTEM.batch_size, embedding_regularizer=SYSTEM.regularizer)
        run = Trainer(model, data, protocol, 1, torch.device("cpu"))
        model.train()
        order = torch.randperm(len(train))
        for rows in order.split(SYSTEM.batch_size):
            yield lambda rows=rows: run.step(train.ids[rows], train.labels[rows])  # type: ignore[misc]
        return
    net = Plain(data.schema, one_table=rung >= 2, words=rung >= 6, sum_first=rung >= 7)
    net.train()
    parameters, tables = list(net.parameters()), net.embeddings()
    table_ids = {id(p) for p in tables}
    decay = [(p, SYSTEM.regularizer if id(p) in table_ids else 0.0) for p in parameters]
    folded = ClippedAdam(decay, 1e-3, 10.0) if rung >= 4 else None
    adam = torch.optim.Adam(parameters, lr=1e-3, fused=rung >= 3)
    ids_of_rung = train.ids if rung >= 2 else (train.ids - torch.tensor(data.schema.offsets)).long()

    def step(ids: Tensor, labels: Tensor) -> Tensor:
        adam.zero_grad()
        x = net.embed(ids)
        loss = plain_networks.self_ensemble(net(x), net(x), labels)
        if folded is None:
            for table in tables:
                loss = loss + SYSTEM.regularizer / 2 * table.norm() ** 2
        loss.backward()  # type: ignore[no-untyped-call]
        if folded is not None:
            folded.step()
        else:
            nn.utils.clip_grad_norm_(parameters, 10.0)
            adam.step()
        return loss.detach()

    if rung == 0:
        loader = iter(DataLoader(TensorDataset(ids_of_rung, train.labels), SYSTEM.batch_size, shuffle=True))
        while True:
            yield lambda: step(*next(loader))
    order = torch.randperm(len(train))
    for rows in order.split(SYSTEM.batch_size):
        yield lambda rows=rows: step(ids_of_rung[rows], train.labels[rows])  # type: ignore[misc]


def measure_ladder(repeats: int, threads: int | None) -> dict[str, Any]:
    """Measure every rung in processes of their own, in turn; write data/measurements/ladder.json and return it."""
    threads = checked_threads(repeats, threads)
    seconds: dict[str, list[float]] = {name: [] for name in RUNGS}
    for _ in range(repeats):
        for rung, name in enumerate(RUNGS):
            command = [sys.executable, "-m", "ctrlib.bench.ladder", str(rung), str(threads)]
            seconds[name].append(last_line(command, threads, f"The rung '{name}'"))
    found = {
        "system": SYSTEM.to_dict(),
        "batch_seconds": {name: spread(values) for name, values in seconds.items()},
        "environment": environment("cpu", threads),
        "commit": commit(),
    }
    write_measurement("ladder", found)
    return found


def main(rung: int, threads: int, warm_up: int = 2, counted: int = 5) -> None:
    """Train a few batches of a rung; print the mean seconds of a batch, the first ones left out."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    if rung >= RUNGS.index("freed memory kept"):
        keep_freed_memory()
    data = load_dataset("frappe_x1-rebuilt", min_count=SYSTEM.min_count)
    todo = batches_of_rung(rung, data)
    for _ in range(warm_up):
        next(todo)()
    started = time.perf_counter()
    for _ in range(counted):
        next(todo)()
    print((time.perf_counter() - started) / counted)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
