"""MaskNet against slow float64 code, its logged totals, its settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_baselines import (
    AVAZU,
    CRITEO,
    CRITEO_X4,
    FRAPPE,
    IDS,
    MIXED,
    MOVIELENS,
    SMALL,
    WIDTH,
    shaken_model,
    slow_mlp,
    slow_vectors,
    split_rows,
    total_of,
)

from ctrlib.errors import SettingError
from ctrlib.models import build_model
from ctrlib.models.masknet import MaskBlock, MaskNetSettings

Array = NDArray[np.float64]


def slow_norm(x: Array, weight: Array | float = 1.0, bias: Array | float = 0.0) -> Array:
    """Layer norm of one vector."""
    return np.asarray((x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).mean() + 1e-5) * weight + bias)


def slow_block(x: Array, v: Array, w: dict[str, Array], name: str) -> Array:
    inner = np.maximum(w[f"{name}.up.weight"] @ x + w[f"{name}.up.bias"], 0.0)
    mask = w[f"{name}.down.weight"] @ inner + w[f"{name}.down.bias"]
    out = w[f"{name}.linear.weight"] @ (mask * v)
    if f"{name}.norm.weight" in w:
        out = slow_norm(out, w[f"{name}.norm.weight"], w[f"{name}.norm.bias"])
    return np.asarray(np.maximum(out, 0.0))


@pytest.mark.parametrize("structure", ["parallel", "serial"])
@pytest.mark.parametrize(("field_norm", "layer_norm"), [(True, True), (False, True), (True, False), (False, False)])
@pytest.mark.parametrize("ratio", [2, 0.3])
def test_sample_by_sample(structure: str, field_norm: bool, layer_norm: bool, ratio: float) -> None:
    settings = {"structure": structure, "field_norm": field_norm, "layer_norm": layer_norm, "mask_ratio": ratio}
    batch_norm = structure == "parallel" and not layer_norm
    model, w = shaken_model("MaskNet", blocks=3, block_width=5, batch_norm=batch_norm, **settings)
    wanted = []
    for row in IDS.numpy():
        x = slow_vectors(w["embedding.weight"], row)
        v = x
        if field_norm:
            rows = zip(x.reshape(3, 4), w["field_norm.weight"], w["field_norm.bias"], strict=True)
            v = np.concatenate([slow_norm(e, weight, bias) for e, weight, bias in rows])
        if structure == "parallel":
            v = slow_mlp(np.concatenate([slow_block(x, v, w, f"blocks.{k}") for k in range(3)]), w, "mlp")
        else:
            for k in range(2):
                v = slow_block(x, v, w, f"blocks.{k}")
        wanted.append(w["mlp.head.weight"][0] @ v + w["mlp.head.bias"][0])
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)

    def block(h: int, o: int) -> int:
        q = int(ratio * h)
        return WIDTH * q + q + q * h + h + h * o + 2 * o * layer_norm

    hidden = 3 * block(WIDTH, 5) + 16 * 8 + 9 * 6 + 2 * 14 * batch_norm
    if structure == "serial":
        hidden = block(WIDTH, 8) + block(8, 6)
    assert model.num_parameters == 18 * 4 + 2 * WIDTH * field_norm + hidden + 6 + 1


def test_dropout_is_last_in_a_block() -> None:
    block = MaskBlock(6, 7, 40, MaskNetSettings(dropout=0.5)).double()
    stream = torch.Generator().manual_seed(0)
    x, v = (torch.randn(9, n, dtype=torch.float64, generator=stream) for n in (6, 7))
    whole = block.eval()(x, v)
    out = block.train()(x, v)
    kept = out != 0
    torch.testing.assert_close(out[kept], 2 * whole[kept])
    assert 0.3 < kept.sum() / (whole > 0).sum() < 0.7


def test_without_hidden_units_the_head_is_on_the_blocks() -> None:
    model = build_model("MaskNet", MIXED, embedding_dim=4, hidden_units=[], blocks=2, block_width=5)
    assert [name for name, _ in model.named_parameters() if name.startswith("mlp")] == [
        "mlp.head.weight",
        "mlp.head.bias",
    ]
    assert model(IDS).shape == (3,)


# Logged by the open benchmark. Its Avazu_x4 has 24 fields.
SERIAL: dict[str, Any] = {"structure": "serial", "field_norm": False, "hidden_units": [400] * 3}
PARALLEL = SERIAL | {"structure": "parallel"}
LARGE = PARALLEL | {"embedding_dim": 16, "block_width": 500, "layer_norm": False}
TOTALS: list[tuple[tuple[int, int], dict[str, Any], int]] = [
    (FRAPPE, PARALLEL | {"blocks": 3, "block_width": 50, "mask_ratio": 2}, 571691),
    (MOVIELENS, SERIAL | {"mask_ratio": 4}, 2624541),
    (CRITEO, SERIAL | {"mask_ratio": 0.2}, 21530629),
    (AVAZU, SERIAL | {"mask_ratio": 2, "field_norm": True}, 14585891),
    (CRITEO_X4, LARGE | {"blocks": 2, "mask_ratio": 0.1, "hidden_units": [1000] * 5}, 20358077),
    ((24, 3750999), LARGE | {"blocks": 6, "mask_ratio": 0.8, "hidden_units": [2000] * 3}, 76594787),
]


@pytest.mark.parametrize(("size", "settings", "total"), TOTALS)
def test_totals_equal_the_logs(size: tuple[int, int], settings: dict[str, Any], total: int) -> None:
    assert total_of("MaskNet", split_rows(*size), {"embedding_dim": 10} | settings) == total


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"structure": "paralel"}, "Did you mean 'parallel'"),
        ({"blocks": 0}, "at least 1"),
        ({"block_width": 0}, "at least 1"),
        ({"mask_ratio": 0}, "above 0"),
        ({"mask_ratio": 0.01}, "less than 1: raise it"),
        ({"structure": "serial", "hidden_units": []}, "at least 1"),
        ({"structure": "serial", "batch_norm": True}, "set batch_norm to False"),
    ],
)
def test_wrong_settings_say_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_model("MaskNet", MIXED, **SMALL | settings)
