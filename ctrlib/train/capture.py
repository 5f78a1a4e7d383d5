"""Whole training steps as CUDA graphs.

On a GPU a step of these models is a hundred small kernels, and launching them one by one takes longer than running
them. A graph records the launches once and replays them as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

WARM_UP_STEPS = 3  # plain steps before the recording: they allocate what the libraries and the optimiser keep

Step = Callable[[Tensor, Tensor], Tensor]


class Graph(Protocol):
    """What a recording gives."""

    def replay(self) -> None:
        """Run what was recorded, on the memory that it was recorded with."""

    def reset(self) -> None:
        """Give the memory back."""


Record = Callable[[Callable[[], Tensor], Sequence[torch.Generator]], tuple[Graph, Tensor]]


def record_cuda_graph(
    function: Callable[[], Tensor], generators: Sequence[torch.Generator]
) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """Record a function's kernels and return the graph and the function's result, which a replay fills.

    generators: random streams that the function draws from; each replay advances them as a call would.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)  # type: ignore[no-untyped-call]
    # All recordings use one stream, and the matrix library keeps one workspace for each stream. Forgetting it before
    # and after gives every graph a workspace of its own, so graphs that run at the same time do not share one.
    torch._C._cuda_clearCublasWorkspaces()
    try:
        # Another thread, which loads data, may use the device meanwhile; that is not part of the step.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = function()
    finally:
        torch._C._cuda_clearCublasWorkspaces()
    return graph, result


class CapturedStep:
    """Calls `step(ids, labels)` and gives its loss: the first calls as they are, then by replaying a recording.

    Batches of another shape than the first, such as the last of an epoch, always run as they are.
    """

    def __init__(self, step: Step, generators: Sequence[torch.Generator], record: Record = record_cuda_graph) -> None:
        self.step, self.generators, self.record = step, list(generators), record
        self.shape: torch.Size | None = None  # of the batches that are replayed: the first one's
        self.plain_calls = 0
        self.inputs: tuple[Tensor, Tensor] | None = None
        self.graph: Graph | None = None
        self.loss: Tensor | None = None

    def __call__(self, ids: Tensor, labels: Tensor) -> Tensor:
        self.shape = self.shape or ids.shape
        if ids.shape != self.shape:
            return self.step(ids, labels)
        if self.plain_calls < WARM_UP_STEPS:
            self.plain_calls += 1
            return self.step(ids, labels)
        if self.inputs is None:
            inputs = self.inputs = ids.clone(), labels.clone()
            self.graph, self.loss = self.record(lambda: self.step(*inputs), self.generators)
        assert self.graph is not None and self.loss is not None
        for fixed, given in zip(self.inputs, (ids, labels), strict=True):
            fixed.copy_(given)
        self.graph.replay()
        return self.loss.clone()

    def close(self) -> None:
        """Give the recording's memory back. Nothing of it may still be running."""
        if self.graph is not None:
            self.graph.reset()
        self.graph = self.inputs = self.loss = None
