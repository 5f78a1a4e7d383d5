"""What the machine can do at best: its matrix rate and its copy rate, measured; and what a training step asks of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ctrlib.models import CTRModel

MATRIX_SHAPES = [(4096, 160, 2080), (4096, 400, 400), (4096, 100, 400), (1024, 1024, 1024)]
COPIED_VALUES = 64 << 20  # far beyond any cache
OPTIMISER_VALUES = 7  # Adam reads parameter, gradient and two moments, and writes all but the gradient


def seconds_each(function: Callable[[], Any], repeats: int, warm_up: int = 2) -> list[float]:
    """Return the seconds of each of `repeats` calls, after some that do not count. Waits for a GPU."""
    for _ in range(warm_up):
        function()
    taken = []
    for _ in range(repeats):
        _wait()
        started = time.perf_counter()
        function()
        _wait()
        taken.append(time.perf_counter() - started)
    return taken


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matrix_rate(device: str = "cpu") -> float:
    """Return the best median rate of a float32 matrix product over some shapes, in operations a second."""
    rates = []
    for rows, inner, columns in MATRIX_SHAPES:
        a, b = torch.randn(rows, inner, device=device), torch.randn(inner, columns, device=device)
        out = torch.empty(rows, columns, device=device)
        taken = seconds_each(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), repeats=11)  # type: ignore[misc]
        rates.append(2 * rows * inner * columns / statistics.median(taken))
    return max(rates)


def copy_rate(device: str = "cpu") -> float:
    """Return the median rate of a copy in memory, bytes read and written a second."""
    source = torch.zeros(COPIED_VALUES, device=device)
    target = torch.empty_like(source)
    taken = seconds_each(lambda: target.copy_(source), repeats=7)
    return 2 * 4 * COPIED_VALUES / statistics.median(taken)


@dataclass(frozen=True)
class Work:
    """What one training step does at least. operations: of its matrix products, forwards and backwards.

    bytes: what it keeps for the backward pass, written and read once, and the optimiser's passes. They are those of
    our implementation: computing things again, or a cache that holds them, can do with fewer.
    """

    operations: int
    bytes: int

    def floor(self, matrix: float, copy: float) -> float:
        """Return the larger of the two times in seconds, for a matrix rate and a copy rate."""
        return max(self.operations / matrix, self.bytes / copy)


def work_of_step(model: CTRModel, ids: Tensor, labels: Tensor) -> Work:
    """Count the work of one training step of the model on a batch."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model.train()
    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.training_loss(ids, labels).backward()  # type: ignore[no-untyped-call]
    parameters = list(model.parameters())
    weights = {p.untyped_storage().data_ptr() for p in parameters}
    activations = sum(size for address, size in kept.items() if address not in weights)
    model.zero_grad()
    optimiser = OPTIMISER_VALUES * sum(4 * p.numel() for p in parameters)
    return Work(int(counter.get_total_flops()), 2 * activations + optimiser)
