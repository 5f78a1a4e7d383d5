"""DCN and EDCN against slow float64 code, their gates, norms and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_baselines import IDS, MIXED, WIDTH, shaken, slow_mlp, slow_vectors

from ctrlib.data import CTRDataset
from ctrlib.layers import Dropout, RankOneCrossNetwork
from ctrlib.models import CTRModel, build_model
from ctrlib.models.edcn import BRIDGES, EDCN, EDCNSettings, Regulation
from ctrlib.train import Protocol, fit

Array = NDArray[np.float64]
LABELS = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
DIM = WIDTH // MIXED.num_fields


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max())
    return np.asarray(powers / powers.sum())


def exact(name: str, **settings: Any) -> tuple[CTRModel, dict[str, Array]]:
    """A model in evaluation mode with random weights and batch statistics, and all of these."""
    model = build_model(name, MIXED, embedding_dim=DIM, **settings).double().eval()
    weights = shaken(model)
    for key, value in model.named_buffers():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(key)))
            weights[key] = value.numpy()
    return model, weights


def moved(model: CTRModel) -> set[str]:
    """Names of the parameters that a batch's loss gives a gradient other than zero."""
    model.train().training_loss(IDS, LABELS).backward()
    return {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}


@pytest.mark.parametrize("layers", [1, 4])
def test_rank_one_cross_network_layer_by_layer(layers: int) -> None:
    network = RankOneCrossNetwork(5, layers).double()
    w = shaken(network)
    x0 = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    wanted = []
    for start in x0.numpy():
        x = start
        for k in range(layers):
            x = start * (w[f"maps.{k}.weight"][0] @ x) + w[f"biases.{k}"] + x
        wanted.append(x)
    np.testing.assert_allclose(network(x0).detach().numpy(), wanted, rtol=1e-10)
    assert sum(p.numel() for p in network.parameters()) == 2 * layers * 5


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
@pytest.mark.parametrize("hidden_units", [[8, 6], []])
def test_dcn_sample_by_sample(structure: str, hidden_units: list[int]) -> None:
    settings = {"structure": structure, "hidden_units": hidden_units, "cross_layers": 2, "batch_norm": True}
    model, w = exact("DCN", **settings)
    wanted = []
    for row in IDS.numpy():
        x0 = slow_vectors(w["embedding.weight"], row)
        x = x0
        for k in range(2):
            x = x0 * (w[f"cross.maps.{k}.weight"][0] @ x) + w[f"cross.biases.{k}"] + x
        if hidden_units:
            x = np.concatenate([x, slow_mlp(x0, w, "mlp")]) if structure == "parallel" else slow_mlp(x, w, "mlp")
        wanted.append(w["head.weight"][0] @ x + w["head.bias"][0])
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    mlp = (WIDTH + 1) * 8 + 9 * 6 + 2 * (8 + 6) if hidden_units else 0
    head = 1 + {"parallel": WIDTH, "stacked": 0}[structure] + 6 if hidden_units else WIDTH + 1
    assert model.num_parameters == 18 * DIM + 2 * 2 * WIDTH + mlp + head


def slow_bridge(kind: str, x: Array, m: Array, w: dict[str, Array], name: str) -> Array:
    if kind == "product":
        return np.array([a * b for a, b in zip(x, m, strict=True)])
    if kind == "sum":
        return np.array([a + b for a, b in zip(x, m, strict=True)])
    if kind == "concatenation":
        return np.maximum(w[f"{name}.linear.weight"] @ np.concatenate([x, m]) + w[f"{name}.linear.bias"], 0.0)
    out = np.zeros_like(x)
    for v in (x, m):
        hidden = np.maximum(w[f"{name}.hidden.weight"] @ v + w[f"{name}.hidden.bias"], 0.0)
        out += softmax(w[f"{name}.out.weight"] @ hidden) * v
    return out


def slow_regulation(u: Array, w: dict[str, Array], name: str, temperature: float) -> list[Array]:
    inputs = []
    for s, gate in enumerate(("cross_gate", "deep_gate")):
        v = u
        if f"{name}.{gate}" in w:
            factors = softmax(w[f"{name}.{gate}"] / temperature)
            v = np.array([u[i] * factors[i // DIM] for i in range(WIDTH)])
        norm = f"{name}.norms.{s}"
        if f"{norm}.weight" in w:
            v = (v - w[f"{norm}.running_mean"]) / np.sqrt(w[f"{norm}.running_var"] + 1e-5)
            v = v * w[f"{norm}.weight"] + w[f"{norm}.bias"]
        inputs.append(v)
    return inputs


@pytest.mark.parametrize("bridge", BRIDGES)
@pytest.mark.parametrize(
    ("regulation", "residual", "batch_norm"),
    [(True, False, True), (True, True, False), (False, False, False), (False, True, True)],
)
def test_edcn_sample_by_sample(bridge: str, regulation: bool, residual: bool, batch_norm: bool) -> None:
    flags = {"regulation": regulation, "residual": residual, "batch_norm": batch_norm}
    model, w = exact("EDCN", bridge=bridge, cross_layers=3, temperature=2.5, **flags)
    wanted = []
    for row in IDS.numpy():
        u = slow_vectors(w["embedding.weight"], row)
        x0 = slow_regulation(u, w, "regulations.0", 2.5)[0]
        for k in range(3):
            x, m = slow_regulation(u, w, f"regulations.{k}", 2.5)
            x = x0 * (w[f"maps.{k}.weight"][0] @ x) + w[f"biases.{k}"] + (x if residual else 0.0)
            m = np.maximum(w[f"deep.{k}.linears.0.weight"] @ m + w[f"deep.{k}.linears.0.bias"], 0.0)
            u = slow_bridge(bridge, x, m, w, f"bridges.{k}")
        wanted.append(w["head.weight"][0] @ np.concatenate([x, m, u]) + w["head.bias"][0])
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    total = 18 * DIM + 3 * (WIDTH**2 + WIDTH) + 3 * 2 * WIDTH + 3 * WIDTH + 1
    total += 2 * 3 * MIXED.num_fields * regulation + 4 * 3 * WIDTH * batch_norm
    assert model.num_parameters == total + 3 * (2 * WIDTH**2 + WIDTH) * (bridge in ("concatenation", "attention"))


def test_gates_start_equal_and_cool_to_the_largest() -> None:
    u = torch.ones(2, WIDTH)
    fresh = Regulation(3, EDCNSettings(embedding_dim=DIM, batch_norm=False))
    for inputs in fresh(u):
        torch.testing.assert_close(inputs, u / 3)
    cold = Regulation(3, EDCNSettings(embedding_dim=DIM, batch_norm=False, temperature=0.01))
    assert cold.cross_gate is not None
    with torch.no_grad():
        cold.cross_gate[1] += 1.0
    x, m = cold(u)
    wanted = torch.tensor([0.0, 1.0, 0.0]).repeat_interleave(DIM).expand(2, -1)
    torch.testing.assert_close(x, wanted)
    torch.testing.assert_close(m, u / 3)


def test_both_inputs_are_normalised_over_the_batch() -> None:
    regulation = Regulation(3, EDCNSettings(embedding_dim=DIM)).double()
    w = shaken(regulation)
    u = torch.randn(6, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for s, (gate, out) in enumerate(zip(("cross_gate", "deep_gate"), regulation(u), strict=True)):
        for i in range(WIDTH):
            v = u[:, i].numpy() * softmax(w[gate])[i // DIM]
            wanted = (v - v.mean()) / np.sqrt(v.var() + 1e-5) * w[f"norms.{s}.weight"][i] + w[f"norms.{s}.bias"][i]
            np.testing.assert_allclose(out[:, i].detach().numpy(), wanted, rtol=1e-10)


@pytest.mark.parametrize("bridge", BRIDGES)
def test_a_gradient_reaches_every_weight_of_edcn(bridge: str) -> None:
    model, _ = exact("EDCN", bridge=bridge, residual=True, dropout=0.0)
    assert moved(model) == dict(model.named_parameters()).keys()


def test_a_gradient_reaches_every_weight_of_dcn() -> None:
    model, _ = exact("DCN", hidden_units=[8, 6], dropout=0.0)
    assert moved(model) == dict(model.named_parameters()).keys()


def test_edcn_drops_after_the_maps_of_its_mlp_alone() -> None:
    model = build_model("EDCN", MIXED, embedding_dim=DIM, dropout=0.5)
    assert isinstance(model, EDCN)
    rates = {place: part.rate for place, part in model.named_modules() if isinstance(part, Dropout)}
    assert rates == {f"deep.{k}.dropout": 0.5 for k in range(3)}
    one, two = model(IDS), model(IDS)
    assert not torch.equal(one, two)


def test_edcn_learns(tiny: CTRDataset) -> None:
    protocol = Protocol(batch_size=10, max_epochs=3, embedding_dim=4, learning_rate=0.01)
    model = build_model("EDCN", tiny.schema, seed=1, embedding_dim=4, bridge="attention")
    assert fit(model, tiny, protocol, seed=1).valid.auc > 0.8
