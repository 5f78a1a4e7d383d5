"""Losses over several passes: float64 references written with loops, their laws, and what the models make of them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from ctrlib.data import CTRDataset
from ctrlib.errors import SettingError
from ctrlib.losses import LOSSES, STATE_LOSSES
from ctrlib.models import build_model
from ctrlib.train import Protocol, fit

COMPARING = [name for name in LOSSES if name not in ("bce", "mean-probability")]


def passes(count: int = 2, batch: int = 9, seed: int = 1) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, batch, generator=stream, dtype=torch.float64) * 2
    return logits, torch.randint(0, 2, (batch,), generator=stream).double()


def bce(p: float, t: float) -> float:
    return -(t * math.log(p) + (1 - t) * math.log(1 - p))


def kl(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def slow(name: str, logits: Tensor, labels: Tensor) -> float:
    """The loss sample by sample, from probabilities."""
    p = torch.sigmoid(logits).tolist()
    y = labels.tolist()
    count, batch = len(p), len(y)
    mean = [sum(row[b] for row in p) / count for b in range(batch)]
    whole = sum(bce(mean[b], y[b]) for b in range(batch)) / batch
    each = [sum(bce(row[b], y[b]) for b in range(batch)) / batch for row in p]
    pairs = list(itertools.permutations(range(count), 2))
    match name:
        case "bce":
            return sum(each) / count
        case "mean-probability":
            return whole
        case "self-ensemble":
            return whole + sum(bce(p[k][b], mean[b]) for k in range(count) for b in range(batch)) / batch
        case "symmetric-kl":
            return whole + sum(kl(p[i][b], p[j][b]) for i, j in pairs for b in range(batch)) / batch / len(pairs)
        case "squared":
            return whole + sum(0.5 * (p[k][b] - mean[b]) ** 2 for k in range(count) for b in range(batch)) / batch
        case "tri-bce":
            return whole + sum(max(0.0, one - whole) * one for one in each)
    raise AssertionError(f"no slow form of {name}")


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("count", [2, 3])
def test_values_equal_the_slow_form(name: str, count: int) -> None:
    logits, labels = passes(count)
    assert float(LOSSES[name](logits, labels)) == pytest.approx(slow(name, logits, labels), rel=1e-12)


def test_cosine_equals_the_slow_form() -> None:
    logits, labels = passes(3)
    states = torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    pairs = [(0, 1), (0, 2), (1, 2)]
    apart = sum(float((1 - torch.cosine_similarity(states[i], states[j], dim=-1)).mean()) for i, j in pairs) / 3
    expected = slow("mean-probability", logits, labels) + apart
    assert float(STATE_LOSSES["cosine"](logits, labels, states)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", COMPARING)
def test_order_of_passes_does_not_matter(name: str) -> None:
    logits, labels = passes(3)
    assert float(LOSSES[name](logits.flip(0), labels)) == pytest.approx(float(LOSSES[name](logits, labels)), rel=1e-13)


@pytest.mark.parametrize("name", COMPARING)
def test_equal_passes_leave_the_gradient_of_plain_cross_entropy(name: str) -> None:
    """With dropout 0 the passes agree, and the comparison must not move the network."""
    one, labels = passes(1)
    logits = one.expand(2, -1).clone().requires_grad_()
    (found,) = torch.autograd.grad(LOSSES[name](logits, labels), logits)
    expected = (torch.sigmoid(one[0]) - labels) / len(labels)
    assert torch.allclose(found.sum(dim=0), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", LOSSES)
def test_large_logits_do_not_overflow(name: str) -> None:
    logits = torch.tensor([[500.0, -500.0], [400.0, -300.0]], requires_grad=True)
    loss = LOSSES[name](logits, torch.tensor([0.0, 1.0]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert math.isfinite(loss.item()) and bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("name", [*COMPARING, *STATE_LOSSES])
def test_every_loss_trains_qnn_alpha(name: str, tiny: CTRDataset) -> None:
    model = build_model("QNN-alpha", tiny.schema, seed=1, embedding_dim=4, rows=2, loss=name, passes=3)
    result = fit(model, tiny, Protocol(batch_size=100, max_epochs=1, embedding_dim=4), seed=1)
    assert math.isfinite(result.epochs[0].train_loss)


def test_a_loss_on_states_is_refused_where_there_are_none(tiny: CTRDataset) -> None:
    model = build_model("T9", tiny.schema, embedding_dim=4, loss="cosine", passes=2)
    with pytest.raises(SettingError, match="QNN-alpha"):
        model.training_loss(tiny.train.ids[:4], tiny.train.labels[:4])
    with pytest.raises(SettingError, match="cosine"):
        build_model("T9", tiny.schema, loss="cosin", passes=2)
