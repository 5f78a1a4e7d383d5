"""The engine's shortcuts: each gives what the plain way gives."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ctrlib.data import CTRDataset, open_streamed, save_streamed
from ctrlib.errors import DataError
from ctrlib.lab import Grid, run_grid, runner
from ctrlib.lab.grid import interleaved
from ctrlib.models import build_model
from ctrlib.train import Protocol, fit
from ctrlib.train.capture import WARM_UP_STEPS, CapturedStep
from ctrlib.train.metrics import auc, device_auc
from ctrlib.train.optimiser import BLOCK_VALUES, ClippedAdam

FAST = Protocol(batch_size=100, max_epochs=2, embedding_dim=4, embedding_regularizer=0.01)


@pytest.mark.parametrize("scale", [1e-3, 1e3], ids=["below the limit", "clipped"])
def test_the_folded_step_has_the_bits_of_the_plain_one(scale: float) -> None:
    """Penalty, clipping and Adam, one after the other, against ClippedAdam; the table spans several blocks."""
    stream = torch.Generator().manual_seed(1)
    shapes = [(BLOCK_VALUES // 8 + 3, 16), (5, 4), (5,)]
    ours = [nn.Parameter(torch.randn(shape, generator=stream)) for shape in shapes]
    plain = copy.deepcopy(ours)
    strengths = [0.01, 0.0, 0.0]
    optimiser = ClippedAdam(list(zip(ours, strengths, strict=True)), 1e-3, 10.0)
    adam = torch.optim.Adam(plain, lr=1e-3, fused=True)
    for _ in range(4):
        for mine, other in zip(ours, plain, strict=True):
            mine.grad = torch.randn(mine.shape, generator=stream) * scale / math.sqrt(mine.numel())
            other.grad = mine.grad.clone()
        optimiser.step()
        plain[0].grad.add_(plain[0].detach(), alpha=strengths[0])  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(plain, 10.0)
        adam.step()
    assert all(torch.equal(mine, other) for mine, other in zip(ours, plain, strict=True))


def test_a_parameter_without_a_gradient_stays() -> None:
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    used.grad = torch.ones(3)
    ClippedAdam([(used, 0.0), (unused, 0.1)], 0.1, 10.0).step()
    assert not torch.equal(used, torch.ones(3)) and torch.equal(unused, torch.ones(3))


class Replayed:
    """Stands for a recorded graph: a replay runs the function on the memory that it was recorded with."""

    def __init__(self, function: Callable[[], Tensor], generators: Sequence[torch.Generator]) -> None:
        self.function, self.result, self.replays = function, torch.zeros(()), 0
        self.closed = False
        assert len(generators) == 1

    def reset(self) -> None:
        self.closed = True

    def replay(self) -> None:
        self.replays += 1
        self.result.copy_(self.function())


def test_replayed_steps_equal_plain_ones() -> None:
    """Batches of several sizes: only those of the first size are replayed, and every loss is its own batch's."""
    recorded: list[Replayed] = []

    def record(function: Callable[[], Tensor], generators: Sequence[torch.Generator]) -> tuple[Replayed, Tensor]:
        recorded.append(Replayed(function, generators))
        return recorded[-1], recorded[-1].result

    def step(ids: Tensor, labels: Tensor) -> Tensor:
        return ids.float().mean() + labels.sum()

    captured = CapturedStep(step, [torch.Generator()], record)
    sizes = [4, 4, 3, 4, 4, 3, 4]
    batches = [(torch.full((size, 2), k), torch.ones(size)) for k, size in enumerate(sizes)]
    losses = [captured(ids, labels) for ids, labels in batches]
    assert [float(x) for x in losses] == [float(step(ids, labels)) for ids, labels in batches]
    assert len(recorded) == 1 and recorded[0].replays == sizes.count(4) - WARM_UP_STEPS
    captured.close()
    assert recorded[0].closed and captured.graph is None


def test_a_run_that_fails_leaves_the_others_their_records(tiny: CTRDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A diverging run is recorded as failed; one that raises is raised at the end, after the others' records."""
    monkeypatch.setattr(runner, "dataset", lambda name, *others: tiny)
    grid = Grid("trial").add("ml-100k", {"T9": ("T9", {}), "DNN": ("DNN", {})}, FAST, [1])
    grid.add("ml-100k", {"T21": ("T21", {})}, FAST.replace(learning_rate=1e12), [1])
    original = runner.build_model

    def failing(name: str, *arguments: Any, **settings: Any) -> Any:
        if name == "DNN":
            raise DataError("made up")
        return original(name, *arguments, **settings)

    monkeypatch.setattr(runner, "build_model", failing)
    found: dict[str, str] = {}
    with pytest.raises(DataError, match="made up"):
        for run, record in interleaved(grid.runs, "cpu", 3):
            found[run.label] = record["status"]
    assert found == {"T9": "completed", "T21": "failed"}


def test_interleaved_runs_have_the_records_of_runs_alone(
    tiny: CTRDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "dataset", lambda name, *others: tiny)
    cells: dict[str, Any] = {"T9": ("T9", {}), "QNN": ("QNN-alpha", {"rows": 2}), "MLP": ("MLP", {"hidden_width": 8})}
    grid = Grid("trial").add("ml-100k", cells, FAST, [1, 2])
    together = {(run.label, run.seed): record for run, record in interleaved(grid.runs, "cpu", 4)}
    alone = run_grid(grid, root=tmp_path, jobs=1, progress=False)
    assert len(together) == len(alone) == 6
    for record in alone:
        other = together[record["label"], record["seed"]]
        for name in ("valid", "test", "best_epoch"):
            assert other[name] == record[name]


def test_a_streamed_data_set_trains_to_the_same_bits(tiny: CTRDataset, tmp_path: Path) -> None:
    """A window that holds the whole split is a full shuffle, so nothing changes but where the rows come from."""
    save_streamed(tiny, tmp_path / "tiny")
    results = []
    for data in (tiny, open_streamed(tmp_path / "tiny")):
        results.append(fit(build_model("T9", data.schema, seed=1, embedding_dim=4), data, FAST, seed=1))
    assert results[0].test == results[1].test
    assert [e.train_loss for e in results[0].epochs] == [e.train_loss for e in results[1].epochs]


def test_auc_on_the_device_counts_ties_half() -> None:
    stream = torch.Generator().manual_seed(1)
    scores = torch.randint(0, 6, (200,), generator=stream).float()
    labels = torch.randint(0, 2, (200,), generator=stream).float()
    positive, negative = scores[labels > 0.5], scores[labels < 0.5]
    above = (positive[:, None] > negative).double() + 0.5 * (positive[:, None] == negative).double()
    assert float(device_auc(scores, labels)) == pytest.approx(float(above.mean()), rel=1e-14)
    assert math.isnan(float(device_auc(scores, torch.ones(200))))
    with pytest.raises(DataError, match="AUC is undefined"):
        auc(scores, torch.ones(200))
