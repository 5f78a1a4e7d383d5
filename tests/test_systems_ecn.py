"""ECN and FCN: head by head in float64, the order of their coordinates, Tri-BCE and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_baselines import IDS, MIXED, NAMES, Array, shaken_state, sigmoid, slow_vectors

from ctrlib.data import CTRDataset, Field, Schema
from ctrlib.errors import SettingError
from ctrlib.layers import Dropout, reset_linear_maps
from ctrlib.losses import weak_parts
from ctrlib.models import build_model
from ctrlib.models.ecn import ECN, FCN, MaskedCrossNetwork
from ctrlib.train import Protocol, fit

LABELS = np.array([1.0, 0.0, 1.0])
BRANCHES = (("exponential", True), ("linear", False))


def shaken_model(name: str, **settings: Any) -> tuple[Any, dict[str, Array]]:
    """A model in evaluation mode, and its weights and batch statistics, all of them random."""
    model = build_model(name, MIXED, **settings).double().eval()
    return model, shaken_state(model)


def slow_heads(table: Array, row: Array, heads: int) -> list[Array]:
    """The input of each head: the first halves of all fields' slices, then the second halves."""
    dim = table.shape[1] // heads
    half = (dim + 1) // 2
    fields = slow_vectors(table, row).reshape(len(NAMES), -1)
    parts = []
    for h in range(heads):
        slices = [field[h * dim : (h + 1) * dim] for field in fields]
        parts.append(np.concatenate([s[:half] for s in slices] + [s[half:] for s in slices]))
    return parts


def slow_cross(inputs: list[Array], w: dict[str, Array], name: str, exponential: bool) -> float:
    """The mean logit of all heads, coordinate by coordinate."""
    logits = []
    for h, x0 in enumerate(inputs):
        x, half, k = x0, len(x0) // 2, 0
        while f"{name}.maps.{k}.weight" in w:
            c = w[f"{name}.maps.{k}.weight"] @ x
            norm = f"{name}.head_norms.{k}"
            if f"{norm}.weight" in w:
                c = (c - w[f"{norm}.running_mean"][h]) / np.sqrt(w[f"{norm}.running_var"][h] + 1e-5)
                c = c * w[f"{norm}.weight"][h] + w[f"{norm}.bias"][h]
            mask = c
            if f"{name}.norms.{k}.weight" in w:
                mask = (c - c.mean()) / np.sqrt(c.var() + 1e-5)
                mask = mask * w[f"{name}.norms.{k}.weight"] + w[f"{name}.norms.{k}.bias"]
            after, factor = np.zeros_like(x), x if exponential else x0
            for i in range(len(x)):
                value = c[i] if i < half else c[i - half] * max(0.0, mask[i - half])
                after[i] = factor[i] * (value + w[f"{name}.biases.{k}"][i]) + x[i]
            x, k = after, k + 1
        logits.append(w[f"{name}.head.weight"][0] @ x + w[f"{name}.head.bias"][0])
    return float(np.mean(logits))


NETWORKS = [(1, True, False, 4), (2, True, True, 4), (3, False, True, 2), (1, False, False, 6)]


def network_total(layers: int, heads: int, layer_norm: bool, batch_norm: bool, width: int) -> int:
    layer = width * width // 2 + width + width * layer_norm + 2 * heads * batch_norm
    return layers * layer + width + 1


@pytest.mark.parametrize(("heads", "layer_norm", "batch_norm", "dim"), NETWORKS)
def test_ecn_head_by_head(heads: int, layer_norm: bool, batch_norm: bool, dim: int) -> None:
    settings = {"heads": heads, "layer_norm": layer_norm, "batch_norm": batch_norm, "embedding_dim": dim}
    model, w = shaken_model("ECN", cross_layers=2, **settings)
    inputs = [slow_heads(w["embedding.weight"], row, heads) for row in IDS.numpy()]
    wanted = [slow_cross(x, w, "cross", True) for x in inputs]
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    assert model.num_parameters == 18 * dim * heads + network_total(2, heads, layer_norm, batch_norm, 3 * dim)


@pytest.mark.parametrize(("heads", "layer_norm", "batch_norm", "dim"), NETWORKS)
def test_fcn_head_by_head(heads: int, layer_norm: bool, batch_norm: bool, dim: int) -> None:
    settings = {"heads": heads, "layer_norm": layer_norm, "batch_norm": batch_norm, "embedding_dim": dim}
    model, w = shaken_model("FCN", cross_layers=2, linear_layers=3, **settings)
    inputs = [slow_heads(w["embedding.weight"], row, heads) for row in IDS.numpy()]
    wanted = np.array(
        [[slow_cross(x, w, name, exponential) for x in inputs] for name, exponential in BRANCHES],
    )
    np.testing.assert_allclose(model.branch_logits(model.embedding(IDS)).detach().numpy(), wanted, rtol=1e-10)
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted.mean(axis=0), rtol=1e-10)
    networks = [network_total(k, heads, layer_norm, batch_norm, 3 * dim) for k in (2, 3)]
    assert model.num_parameters == 18 * dim * heads + sum(networks)


def test_an_odd_embedding_is_split_after_its_middle() -> None:
    schema = Schema((Field("a"), Field("b")), (4, 4))
    model = build_model("ECN", schema, embedding_dim=3, cross_layers=1, layer_norm=False).double()
    assert isinstance(model, ECN)
    w = shaken_state(model)
    a, b = w["embedding.weight"][1], w["embedding.weight"][6]
    x = np.concatenate([a[:2], b[:2], a[2:], b[2:]])
    ids = torch.tensor([[1, 6]])
    assert model.eval()(ids).item() == pytest.approx(slow_cross([x], w, "cross", True), rel=1e-10)


def test_the_table_holds_every_head_and_starts_like_an_embedding() -> None:
    schema = Schema((Field("a"), Field("b")), (3000, 2000))
    for name in ("ECN", "FCN"):
        model = build_model(name, schema, seed=5, embedding_dim=4, heads=3)
        table = model.embedding.weight
        assert table.shape == (5000, 12) and model.width == 8
        assert abs(table[1:3000].std().item() / 1e-4 - 1) < 0.05 and not table[0].any()
        assert [id(p) for p in model.embedding_parameters()] == [id(table)]
    one = build_model("ECN", schema, seed=5, embedding_dim=4)
    assert torch.equal(one.embedding.weight, build_model("DNN", schema, seed=5, embedding_dim=4).embedding.weight)


def test_biases_start_between_zero_and_one() -> None:
    network = MaskedCrossNetwork(1000, 2, 1, exponential=True)
    reset_linear_maps(network)
    for bias in network.biases:
        assert 0.0 <= bias.min() < 0.05 and 0.95 < bias.max() < 1.0 and abs(bias.mean() - 0.5) < 0.05


def test_heads_are_normalised_over_batch_and_coordinates() -> None:
    network = MaskedCrossNetwork(8, 1, 2, exponential=True, layer_norm=False, batch_norm=True).double()
    x = torch.randn(50, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network(x)
    mapped = network.maps[0](x)
    means = network.head_norms[0].running_mean  # moved a tenth of the way from 0
    wanted = torch.stack([mapped[:, h].mean() for h in range(2)])
    torch.testing.assert_close(means, 0.1 * wanted, rtol=1e-10, atol=1e-14)


def slow_tri_bce(logits: Array) -> tuple[float, list[float]]:
    """The whole's loss and the two branches' losses, sample by sample."""
    found = []
    for z in (logits.mean(axis=0), *logits):
        p = sigmoid(z)
        each = [-(y * np.log(q) + (1 - y) * np.log(1 - q)) for q, y in zip(p, LABELS, strict=True)]
        found.append(sum(each) / len(each))
    return found[0], found[1:]


LOGITS = {
    "one is worse": np.array([[2.0, -1.0, 0.5], [-0.5, 1.5, -1.0]]),
    "the other is worse": np.array([[-0.5, 1.5, -1.0], [2.0, -1.0, 0.5]]),
    "both are": np.array([[2.0, 1.0, -1.5], [-1.5, -0.5, 1.0]]),
}


@pytest.mark.parametrize("case", LOGITS)
def test_tri_bce_and_its_gradient(case: str) -> None:
    """The weight L_k - L_0 has a gradient too, so that z_s gets w_k g_k + (g_k - g_0) L_k of each active term."""
    logits = LOGITS[case]
    model, _ = shaken_model("FCN", embedding_dim=4)
    values = torch.from_numpy(logits).requires_grad_()
    model.branch_logits = lambda e_BFD: values
    loss = model.training_loss(IDS, torch.from_numpy(LABELS))
    whole, each = slow_tri_bce(logits)
    active = [k for k in range(2) if each[k] > whole]
    assert len(active) == (2 if case == "both are" else 1)
    wanted = whole + sum((each[k] - whole) * each[k] for k in active)
    assert loss.item() == pytest.approx(wanted, rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, values)
    by_whole = np.tile((sigmoid(logits.mean(axis=0)) - LABELS) / 3 / 2, (2, 1))
    total = by_whole.copy()
    for k in active:
        own = np.zeros_like(logits)
        own[k] = (sigmoid(logits[k]) - LABELS) / 3
        term = (each[k] - whole) * own + (own - by_whole) * each[k]
        assert abs(term).max() > 1e-2, "every active term moves the logits"
        total += term
    np.testing.assert_allclose(gradient.numpy(), total, rtol=1e-10)


def test_the_loss_reaches_the_networks_and_never_leaves_both_out() -> None:
    """Cross entropy is convex in the logit, so the mean is never worse than both networks."""
    stream = torch.Generator().manual_seed(0)
    for _ in range(50):
        whole, each = slow_tri_bce(torch.randn(2, 3, generator=stream, dtype=torch.float64).numpy() * 3)
        assert max(each) > whole
    model, _ = shaken_model("FCN", embedding_dim=4)
    labels = torch.from_numpy(LABELS)
    logits = model.branch_logits(model.embedding(IDS))[:, None]
    model.branch_loss(logits, labels).backward()
    for name, _ in BRANCHES:
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in getattr(model, name).maps.parameters())


def test_weak_parts_leaves_out_what_is_better_than_the_whole() -> None:
    each = torch.tensor([0.2, 0.7, 0.5], dtype=torch.float64)
    assert weak_parts(torch.tensor(0.5, dtype=torch.float64), each).item() == pytest.approx(0.2 * 0.7, rel=1e-12)


@pytest.mark.parametrize("name", ["ECN", "FCN"])
def test_passes_share_the_loss_of_one_without_dropout(name: str, tiny: CTRDataset) -> None:
    ids, labels = tiny.train.ids[:40], tiny.train.labels[:40]
    models = [build_model(name, tiny.schema, seed=3, dropout=0.0, embedding_dim=4, passes=k) for k in (1, 3)]
    torch.testing.assert_close(models[0].training_loss(ids, labels), models[1].training_loss(ids, labels))


def test_dropout_acts_on_every_layer() -> None:
    model = build_model("FCN", MIXED, seed=1, embedding_dim=4, dropout=0.2, linear_dropout=0.4)
    assert isinstance(model, FCN)
    assert [part.rate for part in model.modules() if isinstance(part, Dropout)] == [0.2, 0.4]
    same = build_model("FCN", MIXED, embedding_dim=4, dropout=0.2)
    assert [part.rate for part in same.modules() if isinstance(part, Dropout)] == [0.2, 0.2]
    network = MaskedCrossNetwork(8, 2, 1, exponential=True, dropout=0.5).double()
    network.dropout = Halving()  # type: ignore[assignment]
    for weight in network.parameters():
        weight.data.zero_()
    network.head.weight.data.fill_(1.0)
    x = torch.ones(3, 1, 8, dtype=torch.float64)
    assert torch.equal(network(x), torch.full((3,), 2.0, dtype=torch.float64)), "8 ones, halved by each of two layers"


class Halving(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 2


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ECN", {}),
        ("ECN", {"heads": 2, "batch_norm": True, "layer_norm": False}),
        ("FCN", {"cross_layers": 2, "linear_layers": 2}),
        ("FCN", {"cross_layers": 2, "linear_layers": 2, "heads": 2, "batch_norm": True}),
    ],
)
def test_five_epochs_learn_and_move_every_weight(name: str, settings: dict[str, Any], tiny: CTRDataset) -> None:
    protocol = Protocol(batch_size=10, max_epochs=5, embedding_dim=4, learning_rate=0.01, embedding_regularizer=1e-4)
    model = build_model(name, tiny.schema, seed=1, embedding_dim=4, **settings)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    assert fit(model, tiny, protocol, seed=1).valid.auc > 0.8
    assert not [key for key, value in model.named_parameters() if torch.equal(before[key], value)]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ECN", {"cross_layers": 0}, "at least 1"),
        ("ECN", {"heads": 0}, "at least 1"),
        ("ECN", {"cross_layer": 2}, "Did you mean 'cross_layers'"),
        ("ECN", {"embedding_dim": 3}, "even embedding_dim"),
        ("ECN", {"dropout": 1.0}, "outside"),
        ("FCN", {"linear_layers": 0}, "linear_layers is 0"),
        ("FCN", {"linear_dropout": 1.0}, "outside"),
        ("FCN", {"loss": "cosine", "passes": 2}, "does not give"),
    ],
)
def test_wrong_settings_say_what_is_wrong(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_model(name, MIXED, **settings)
