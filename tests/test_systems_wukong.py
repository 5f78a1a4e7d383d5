"""WuKong: its layers sample by sample in float64, its parameters and settings."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from test_baselines import IDS, MIXED, Array, shaken_model, slow_mlp, slow_vectors

from ctrlib.data import CTRDataset
from ctrlib.errors import SettingError
from ctrlib.layers import Dropout
from ctrlib.models import build_model
from ctrlib.models.wukong import WuKong
from ctrlib.train import Protocol, fit

SMALL: dict[str, Any] = {"layers": 2, "fmb_rows": 3, "lcb_rows": 2, "rank": 2, "fmb_units": [5, 4]}


def normalised(x: Array, scale: Array, shift: Array) -> Array:
    return np.asarray((x - x.mean()) / np.sqrt(x.var() + 1e-5) * scale + shift)


def slow_layer(x: Array, w: dict[str, Array], name: str) -> Array:
    """Rows (n, D) -> (n', D), product by product."""
    rows, dim = x.shape
    mixing = w[f"{name}.projection"]
    products = []
    for i in range(rows):
        for k in range(mixing.shape[1]):
            products.append(sum(mixing[j, k] * (x[i] @ x[j]) for j in range(rows)))
    scaled = normalised(np.array(products), w[f"{name}.product_norm.weight"], w[f"{name}.product_norm.bias"])
    machine = w[f"{name}.head.weight"] @ slow_mlp(scaled, w, f"{name}.mlp") + w[f"{name}.head.bias"]
    machine_rows = np.maximum(machine, 0.0).reshape(-1, dim)
    linear_rows = [sum(weight[j] * x[j] for j in range(rows)) for weight in w[f"{name}.compress.weight"]]
    out = np.concatenate([machine_rows, linear_rows])
    if f"{name}.residual.weight" in w:
        weight, bias = w[f"{name}.residual.weight"], w[f"{name}.residual.bias"]
        out += np.array([sum(weight[r, j] * x[j] for j in range(rows)) + bias[r] for r in range(len(out))])
    else:
        out += x
    if f"{name}.norm.weight" in w:
        out = np.array([normalised(row, w[f"{name}.norm.weight"], w[f"{name}.norm.bias"]) for row in out])
    return out


@pytest.mark.parametrize(
    ("settings", "batch_norm"),
    [({}, True), ({"layer_norm": False, "lcb_rows": 1}, False), ({"fmb_units": [], "fmb_rows": 1}, False)],
)
def test_wukong_sample_by_sample(settings: dict[str, Any], batch_norm: bool) -> None:
    values = SMALL | settings
    model, w = shaken_model("WuKong", batch_norm=batch_norm, **values)
    wanted = []
    for row in IDS.numpy():
        x = slow_vectors(w["embedding.weight"], row).reshape(3, 4)
        for layer in range(2):
            x = slow_layer(x, w, f"layers.{layer}")
        wanted.append(w["mlp.head.weight"][0] @ slow_mlp(x.flatten(), w, "mlp") + w["mlp.head.bias"][0])
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    out, units, total = values["fmb_rows"] + values["lcb_rows"], values["fmb_units"], 18 * 4
    for n in (3, out):
        sizes = [n * 2, *units, values["fmb_rows"] * 4]
        total += n * 2 + 2 * n * 2 + sum((a + 1) * b for a, b in pairwise(sizes))
        total += n * values["lcb_rows"] + 2 * 4 * values.get("layer_norm", True) + (n + 1) * out * (n != out)
    total += (out * 4 + 1) * 8 + 9 * 6 + 7 + 2 * 14 * batch_norm
    assert model.num_parameters == total
    assert ("layers.0.residual.weight" in w) == (out != 3) and "layers.1.residual.weight" not in w


def test_projections_start_normal_and_are_not_reset() -> None:
    model = build_model("WuKong", MIXED, seed=1, rank=500, fmb_rows=50, lcb_rows=50, fmb_units=[4])
    assert isinstance(model, WuKong)
    projection = model.layers[1].projection
    assert projection.shape == (100, 500) and abs(projection.std().item() - 1) < 0.02  # type: ignore[union-attr,operator]


def test_dropout_acts_in_the_layers_alone() -> None:
    model = build_model("WuKong", MIXED, seed=1, embedding_dim=4, dropout=0.3, **SMALL)
    rates = {name: part.rate for name, part in model.named_modules() if isinstance(part, Dropout)}
    assert rates == {"layers.0.mlp.dropout": 0.3, "layers.1.mlp.dropout": 0.3, "mlp.dropout": 0.0}
    assert not torch.equal(model(IDS), model(IDS)), "masks differ"
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm1d)]
    assert [norm.num_features for norm in norms] == [512, 256]


@pytest.mark.parametrize("settings", [SMALL, SMALL | {"lcb_rows": 1, "layer_norm": False, "batch_norm": False}])
def test_three_epochs_learn_and_move_every_weight(settings: dict[str, Any], tiny: CTRDataset) -> None:
    protocol = Protocol(batch_size=10, max_epochs=3, embedding_dim=4, learning_rate=0.01, embedding_regularizer=1e-4)
    model = build_model("WuKong", tiny.schema, seed=1, embedding_dim=4, hidden_units=[8, 6], **settings)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    assert fit(model, tiny, protocol, seed=1).valid.auc > 0.8
    assert not [key for key, value in model.named_parameters() if torch.equal(before[key], value)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 0}, "at least 1"),
        ({"rank": 0}, "at least 1"),
        ({"fmb_rows": 0}, "at least 1"),
        ({"lcb_rows": 0}, "at least 1"),
        ({"fmb_units": 32}, "fmb_units is 32"),
        ({"fmb_row": 3}, "Did you mean 'fmb_rows'"),
        ({"activation": "rellu"}, "Did you mean 'relu'"),
    ],
)
def test_wrong_settings_say_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_model("WuKong", MIXED, **settings)
