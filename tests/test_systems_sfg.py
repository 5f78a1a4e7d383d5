"""SFG: every host sample by sample in float64, pair by pair."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from test_baselines import IDS, MIXED, WIDTH, Array, shaken_model, slow_mlp, slow_vectors

from ctrlib.data import CTRDataset
from ctrlib.errors import SettingError
from ctrlib.layers import Dropout
from ctrlib.models import build_model
from ctrlib.train import Protocol, fit

PAIRS = list(itertools.combinations(range(3), 2))


def generated(x: Array, weight: Array, scale: float, residual: bool) -> Array:
    out = np.array([scale * max(0.0, row @ x) for row in weight])
    return out + x if residual else out


def slow_first_order(w: dict[str, Array], row: Array) -> float:
    """One weight for each id that is not the padding of the multi-valued field, and the bias."""
    table = w["first_order.embedding.weight"][:, 0]
    return float(sum(table[i] for c, i in enumerate(row) if c not in (1, 2, 3) or i != 5) + w["first_order.bias"][0])


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("host", "scale"), [("FM", 0.1), ("DeepFM", 6.0), ("FmFM", 2.0)])
def test_pairs_sample_by_sample(host: str, scale: float, residual: bool) -> None:
    model, w = shaken_model("SFG", host=host, scale=scale, residual=residual)
    wanted = []
    for row in IDS.numpy():
        x = slow_vectors(w["embedding.weight"], row)
        e, g = x.reshape(3, 4), generated(x, w["generator.linear.weight"], scale, residual).reshape(3, 4)
        logit = slow_first_order(w, row)
        for p, (i, j) in enumerate(PAIRS):
            logit += e[i] @ w["matrices.weight"][p] @ g[j] if host == "FmFM" else g[i] @ e[j]
        if host == "DeepFM":
            logit += w["mlp.head.weight"][0] @ slow_mlp(x, w, "mlp") + w["mlp.head.bias"][0]
        wanted.append(logit)
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    total = 18 * 4 + 18 + 1 + WIDTH**2
    mlp = (WIDTH + 1) * 8 + 9 * 6 + 7
    assert model.num_parameters == total + {"FM": 0, "DeepFM": mlp, "FmFM": 3 * 4**2}[host]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("hidden_units", [[8, 6], []])
def test_cross_layers_sample_by_sample(hidden_units: list[int], residual: bool) -> None:
    settings = {"host": "DCNv2", "scale": 0.5, "residual": residual, "hidden_units": hidden_units}
    model, w = shaken_model("SFG", cross_layers=2, **settings)
    wanted = []
    for row in IDS.numpy():
        x0 = x = slow_vectors(w["embedding.weight"], row)
        for k in range(2):
            factor = generated(x, w[f"generators.{k}.linear.weight"], 0.5, residual)
            x = x + factor * (w[f"maps.{k}.weight"] @ x)
        state = np.concatenate([x, slow_mlp(x0, w, "mlp")]) if hidden_units else x
        wanted.append(w["head.head.weight"][0] @ slow_mlp(state, w, "head") + w["head.head.bias"][0])
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    n = WIDTH + (6 if hidden_units else 0)
    mlp = (WIDTH + 1) * 8 + 9 * 6 if hidden_units else 0
    assert model.num_parameters == 18 * 4 + 2 * 2 * WIDTH**2 + mlp + 2 * n * n + 2 * n + 2 * n + 1


def test_without_hidden_units_deepfm_is_fm() -> None:
    fm = build_model("SFG", MIXED, seed=1, embedding_dim=4, host="FM")
    same = build_model("SFG", MIXED, seed=1, embedding_dim=4, host="DeepFM", hidden_units=[])
    assert torch.equal(fm(IDS), same(IDS)) and fm.num_parameters == same.num_parameters


def test_dropout_acts_in_the_mlp_and_on_cross_layers() -> None:
    model = build_model("SFG", MIXED, seed=1, embedding_dim=4, dropout=0.3, host="DCNv2")
    rates = {name: part.rate for name, part in model.named_modules() if isinstance(part, Dropout)}
    assert rates == {"dropout": 0.3, "mlp.dropout": 0.3, "head.dropout": 0.0}
    alone = build_model("SFG", MIXED, seed=1, embedding_dim=4, dropout=0.3, host="DCNv2", hidden_units=[])
    assert not torch.equal(alone(IDS), alone(IDS)), "masks differ"


@pytest.mark.parametrize("host", ["FM", "DeepFM", "FmFM", "DCNv2"])
@pytest.mark.parametrize("residual", [False, True])
def test_three_epochs_learn_and_move_every_weight(host: str, residual: bool, tiny: CTRDataset) -> None:
    protocol = Protocol(batch_size=10, max_epochs=3, embedding_dim=4, learning_rate=0.01, embedding_regularizer=1e-4)
    settings = {"host": host, "residual": residual, "hidden_units": [8, 6]}
    model = build_model("SFG", tiny.schema, seed=1, embedding_dim=4, **settings)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    assert fit(model, tiny, protocol, seed=1).valid.auc > 0.75
    assert not [key for key, value in model.named_parameters() if torch.equal(before[key], value)]


def test_batch_norm_and_tables() -> None:
    model = build_model("SFG", MIXED, embedding_dim=4, batch_norm=True, hidden_units=[8, 6])
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm1d)]
    assert [norm.num_features for norm in norms] == [8, 6]
    assert len(model.embedding_parameters()) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "DCN"}, "Did you mean 'DCNv2'"),
        ({"scale": 0.0}, "above 0"),
        ({"cross_layers": 0}, "cross_layers is 0"),
        ({"hots": "FM"}, "Did you mean 'host'"),
        ({"hidden_units": 400}, "hidden_units is 400"),
    ],
)
def test_wrong_settings_say_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_model("SFG", MIXED, **settings)
