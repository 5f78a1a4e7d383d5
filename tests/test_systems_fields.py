"""AFN, FiBiNET and FiGNN against slow float64 code, their norms, initial values and gradients."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from test_baselines import IDS, MIXED, WIDTH, shaken, sigmoid, slow_mlp, slow_vectors
from test_systems_cross import DIM, LABELS, Array, exact, moved, softmax

from ctrlib.data import CTRDataset, Field, Schema
from ctrlib.errors import SettingError
from ctrlib.layers import Dropout
from ctrlib.models import build_model
from ctrlib.models.afn import AFN, LogarithmicNeurons
from ctrlib.models.fibinet import BilinearPairs
from ctrlib.models.fignn import EdgeWeights, FiGNN, GraphLayer
from ctrlib.train import Protocol, fit

FIELDS = MIXED.num_fields
SMALL_AFN: dict[str, Any] = {"hidden_units": [8, 6], "neurons": 5, "neuron_units": [7]}


def logit(x: Array, w: dict[str, Array], name: str) -> float:
    """An MLP with its head."""
    return float(w[f"{name}.head.weight"][0] @ slow_mlp(x, w, name) + w[f"{name}.head.bias"][0])


# ---- AFN ----


def slow_neurons(e: Array, w: dict[str, Array]) -> Array:
    """Field vectors (F, D) -> (D, K), with the batch norms' running statistics."""
    logs = np.zeros_like(e)
    for f in range(FIELDS):
        for j in range(DIM):
            logs[f, j] = np.log(max(abs(e[f, j]), 1e-5))
        logs[f] = normed(logs[f], w, "neurons.log_norm", f)
    out = np.zeros((DIM, 5))
    for k in range(5):
        powers = np.prod([np.exp(logs[f]) ** w["neurons.linear.weight"][k, f] for f in range(FIELDS)], axis=0)
        out[:, k] = normed(powers, w, "neurons.norm", k)
    return out


def normed(v: Array, w: dict[str, Array], name: str, k: int) -> Array:
    unit = (v - w[f"{name}.running_mean"][k]) / np.sqrt(w[f"{name}.running_var"][k] + 1e-5)
    return np.asarray(unit * w[f"{name}.weight"][k] + w[f"{name}.bias"][k])


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_afn_sample_by_sample(ensemble: bool, batch_norm: bool) -> None:
    hidden = [8, 6] if ensemble else []
    model, w = exact("AFN", **SMALL_AFN | {"hidden_units": hidden, "batch_norm": batch_norm})
    with torch.no_grad():
        model.embedding.weight[IDS[0, 0], 1] = -3e-6  # counts as 1e-5
    wanted = []
    for row in IDS.numpy():
        e = slow_vectors(w["embedding.weight"], row).reshape(FIELDS, DIM)
        z = logit(slow_neurons(e, w).flatten(), w, "neuron_mlp")
        if ensemble:
            second = logit(slow_vectors(w["second_embedding.weight"], row), w, "mlp")
            z = w["mix.weight"][0, 0] * z + w["mix.weight"][0, 1] * second + w["mix.bias"][0]
        wanted.append(z)
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    total = 18 * DIM + FIELDS * 5 + 2 * FIELDS + 2 * 5 + (5 * DIM + 1) * 7 + 7 + 1 + 2 * 7 * batch_norm
    if ensemble:
        total += 18 * DIM + (WIDTH + 1) * 8 + 9 * 6 + 2 * 14 * batch_norm + 6 + 1 + 3
    assert model.num_parameters == total


def test_logarithmic_neurons_normalise_over_batch_and_width() -> None:
    neurons = LogarithmicNeurons(3, 2).double()
    w = shaken(neurons)
    e = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    logs = np.log(np.abs(e.numpy()))
    for f in range(3):
        v = logs[:, f]
        logs[:, f] = (v - v.mean()) / np.sqrt(v.var() + 1e-5) * w["log_norm.weight"][f] + w["log_norm.bias"][f]
    wanted = np.zeros((4, 5, 2))
    for k in range(2):
        v = np.exp(sum(w["linear.weight"][k, f] * logs[:, f] for f in range(3)))
        wanted[:, :, k] = (v - v.mean()) / np.sqrt(v.var() + 1e-5) * w["norm.weight"][k] + w["norm.bias"][k]
    np.testing.assert_allclose(neurons(e).detach().numpy(), wanted.reshape(4, 10), rtol=1e-10)


def test_afn_tables_start_and_are_regularised_like_an_embedding() -> None:
    schema = Schema((Field("a"), Field("b")), (3000, 2000))
    model = build_model("AFN", schema, seed=5, embedding_dim=4, **SMALL_AFN)
    assert isinstance(model, AFN) and model.second_embedding is not None
    tables = [model.embedding.weight, model.second_embedding.weight]
    assert [id(p) for p in model.embedding_parameters()] == [id(p) for p in tables]
    assert not torch.equal(*tables) and not tables[1][[0, 3000]].any()
    assert abs(tables[1][1:3000].std().item() / 1e-4 - 1) < 0.05


def test_afn_has_a_dropout_for_each_mlp() -> None:
    for rate, wanted in ((None, 0.3), (0.5, 0.5)):
        model = build_model("AFN", MIXED, embedding_dim=DIM, dropout=0.3, neuron_dropout=rate, **SMALL_AFN)
        rates = {place: part.rate for place, part in model.named_modules() if isinstance(part, Dropout)}
        assert rates == {"neuron_mlp.dropout": wanted, "mlp.dropout": 0.3}


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_passes_of_afn_share_the_neurons_and_part_in_the_mlps(rate: float) -> None:
    model = build_model("AFN", MIXED, embedding_dim=DIM, passes=3, dropout=rate, loss="self-ensemble", **SMALL_AFN)
    assert isinstance(model, AFN)
    logits_K = [model.fused(model.inputs(IDS)) for _ in range(2)]
    assert torch.equal(*logits_K) == (rate == 0.0)
    before = model.neurons.norm.num_batches_tracked.clone()  # type: ignore[union-attr]
    model.training_loss(IDS, LABELS.float())
    assert model.neurons.norm.num_batches_tracked == before + 1
    if rate == 0.0:
        one = build_model("AFN", MIXED, embedding_dim=DIM, dropout=rate, **SMALL_AFN)
        three = build_model("AFN", MIXED, embedding_dim=DIM, dropout=rate, passes=3, **SMALL_AFN)
        torch.testing.assert_close(*(m.training_loss(IDS, LABELS.float()) for m in (one, three)))


# ---- FiBiNET ----


def slow_pairs(e: Array, weight: Array, maps: str) -> Array:
    """Field vectors (F, D) -> all pairs' products, end to end."""
    out = []
    for number, (i, j) in enumerate(combinations(range(len(e)), 2)):
        matrix = weight if maps == "all" else weight[i if maps == "each" else number]
        for k in range(e.shape[1]):
            out.append(sum(e[i, m] * matrix[m, k] for m in range(e.shape[1])) * e[j, k])
    return np.array(out)


@pytest.mark.parametrize("maps", ["all", "each", "interaction"])
def test_bilinear_pairs_are_ordered_by_first_and_second_field(maps: str) -> None:
    layer = BilinearPairs(5, 3, maps).double()
    w = shaken(layer)
    e = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    wanted = [slow_pairs(sample, w["weight"], maps) for sample in e.numpy()]
    np.testing.assert_allclose(layer(e).detach().flatten(1).numpy(), wanted, rtol=1e-10)


@pytest.mark.parametrize("maps", ["all", "each", "interaction"])
@pytest.mark.parametrize(
    ("shared_maps", "excitation", "reduction", "hidden_units"),
    [(False, "relu", 1.1, [8, 6]), (True, "sigmoid", 0.5, []), (True, "relu", 99, [8, 6])],
)
def test_fibinet_sample_by_sample(
    maps: str, shared_maps: bool, excitation: str, reduction: float, hidden_units: list[int]
) -> None:
    settings = {"maps": maps, "shared_maps": shared_maps, "excitation": excitation, "reduction": reduction}
    model, w = exact("FiBiNET", hidden_units=hidden_units, **settings)
    squeezed = {1.1: 2, 0.5: 6, 99: 1}[reduction]
    assert w["senet.squeeze.weight"].shape == (squeezed, FIELDS)
    wanted = []
    for row in IDS.numpy():
        e = slow_vectors(w["embedding.weight"], row).reshape(FIELDS, DIM)
        means = np.array([sum(v) / DIM for v in e])
        weights = w["senet.excite.weight"] @ np.maximum(w["senet.squeeze.weight"] @ means, 0.0)
        weights = np.maximum(weights, 0.0) if excitation == "relu" else sigmoid(weights)
        weighed = np.array([a * v for a, v in zip(weights, e, strict=True)])
        second = "pairs.weight" if shared_maps else "weighed_pairs.weight"
        products = [slow_pairs(e, w["pairs.weight"], maps), slow_pairs(weighed, w[second], maps)]
        first_order = sum(w["first_order.embedding.weight"][i, 0] for i in row if i != MIXED.offsets[1])
        wanted.append(logit(np.concatenate(products), w, "mlp") + first_order)
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    pairs = FIELDS * (FIELDS - 1) // 2
    maps_total = {"all": 1, "each": FIELDS, "interaction": pairs}[maps] * DIM**2 * (1 if shared_maps else 2)
    mlp = (2 * pairs * DIM + 1) * 8 + 9 * 6 + 6 + 1 if hidden_units else 2 * pairs * DIM + 1
    assert model.num_parameters == 18 * (DIM + 1) + 2 * FIELDS * squeezed + maps_total + mlp


def test_stacked_maps_start_as_xavier_draws_the_whole_tensor() -> None:
    fields, dim = 30, 20
    draws = {
        "all": (BilinearPairs(fields, 200, "all").weight, 200 + 200),
        "each": (BilinearPairs(fields, dim, "each").weight, dim * dim + fields * dim),
        "interaction": (BilinearPairs(fields, dim, "interaction").weight, dim * dim + 435 * dim),
        "graph, out": (GraphLayer(fields, dim).outgoing, dim * dim + fields * dim),
        "graph, in": (GraphLayer(fields, dim).incoming, dim * dim + fields * dim),
    }
    for name, (weight, fans) in draws.items():
        assert abs(weight.std().item() / np.sqrt(2 / fans) - 1) < 0.05, name


# ---- FiGNN ----


def slow_gru(a: Array, h: Array, w: dict[str, Array]) -> Array:
    own, old = w["gru.weight_ih"] @ a + w["gru.bias_ih"], w["gru.weight_hh"] @ h + w["gru.bias_hh"]
    reset, update = (sigmoid(own[p] + old[p]) for p in (slice(DIM), slice(DIM, 2 * DIM)))
    new = np.tanh(own[2 * DIM :] + reset * old[2 * DIM :])
    return np.asarray((1 - update) * new + update * h)


@pytest.mark.parametrize("gru", [True, False])
@pytest.mark.parametrize(("residual", "shared_layer"), [(True, False), (False, True)])
def test_fignn_sample_by_sample(gru: bool, residual: bool, shared_layer: bool) -> None:
    model, w = exact("FiGNN", graph_layers=3, gru=gru, residual=residual, shared_layer=shared_layer)
    wanted = []
    for row in IDS.numpy():
        e = slow_vectors(w["embedding.weight"], row).reshape(FIELDS, DIM)
        h = e
        for layer in range(3):
            name = f"layers.{0 if shared_layer else layer}"
            after = []
            for i in range(FIELDS):
                others = [j for j in range(FIELDS) if j != i]
                scores = np.array([w["edges.linear.weight"][0] @ np.concatenate([e[i], e[j]]) for j in others])
                edges = softmax(np.where(scores > 0, scores, 0.01 * scores))
                heard = sum(g * (w[f"{name}.outgoing"][j] @ h[j]) for g, j in zip(edges, others, strict=True))
                message = w[f"{name}.incoming"][i] @ heard + w[f"{name}.bias"]
                state = slow_gru(message, h[i], w) if gru else message + h[i]
                after.append(state + e[i] if residual else state)
            h = np.array(after)
        weights = sigmoid(w["attention.weight"] @ h.flatten())
        wanted.append(sum(weights[i] * (w["score.weight"][0] @ h[i]) for i in range(FIELDS)))
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    layers = (1 if shared_layer else 3) * (2 * FIELDS * DIM**2 + DIM)
    assert model.num_parameters == 18 * DIM + layers + (6 * DIM**2 + 6 * DIM) * gru + 3 * DIM + FIELDS * WIDTH


def test_edges_leave_out_the_node_itself_and_sum_to_one() -> None:
    edges = EdgeWeights(4, 3)
    graph = edges(torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(6)))
    assert not graph.diagonal(dim1=1, dim2=2).any()
    torch.testing.assert_close(graph.sum(dim=2), torch.ones(6, 4))


def test_the_gru_keeps_its_own_initial_values() -> None:
    model = build_model("FiGNN", MIXED, seed=1, embedding_dim=64)
    assert isinstance(model, FiGNN) and model.gru is not None
    for value in model.gru.parameters():
        assert value.abs().max() <= 1 / 8 and value.abs().max() > 0.9 / 8


# ---- all three ----

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("AFN", SMALL_AFN),
    ("AFN", SMALL_AFN | {"hidden_units": []}),
    ("FiBiNET", {"hidden_units": [8, 6], "maps": "all"}),
    ("FiBiNET", {"hidden_units": [8, 6], "maps": "interaction"}),
    ("FiBiNET", {"hidden_units": [8, 6], "maps": "each", "shared_maps": True}),
    ("FiGNN", {}),
    ("FiGNN", {"gru": False, "shared_layer": True}),
]


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_a_gradient_reaches_every_weight(name: str, settings: dict[str, Any]) -> None:
    extra = {"excitation": "sigmoid", "reduction": 1} if name == "FiBiNET" else {}
    model, _ = exact(name, dropout=0.0, **settings, **extra)
    assert moved(model) == dict(model.named_parameters()).keys()


def test_the_last_field_is_left_of_no_pair() -> None:
    layer = BilinearPairs(4, 3, "each")
    layer(torch.randn(2, 4, 3)).sum().backward()
    assert layer.weight.grad is not None
    assert [bool(gradient.any()) for gradient in layer.weight.grad] == [True, True, True, False]


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_they_learn(name: str, settings: dict[str, Any], tiny: CTRDataset) -> None:
    protocol = Protocol(batch_size=10, max_epochs=3, embedding_dim=4, learning_rate=0.01, embedding_regularizer=1e-4)
    model = build_model(name, tiny.schema, seed=1, embedding_dim=4, **settings)
    assert fit(model, tiny, protocol, seed=1).valid.auc > 0.8


@pytest.mark.parametrize("name", ["FiBiNET", "FiGNN"])
def test_one_field_has_no_pairs(name: str) -> None:
    with pytest.raises(SettingError, match="at least 2 fields"):
        build_model(name, Schema((Field("a"),), (5,)))
