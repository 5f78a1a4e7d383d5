"""EulerNet and RFM, which compute with complex numbers, against slow float64 code; totals, initial values, settings."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_baselines import FRAPPE_FIELDS, IDS, MIXED, shaken, slow_vectors, split_rows, total_of

from ctrlib.data import CTRDataset
from ctrlib.errors import SettingError
from ctrlib.layers import Dropout
from ctrlib.models import build_model
from ctrlib.models.eulernet import EulerLayer, EulerNet, EulerNetSettings
from ctrlib.models.rfm import RFM, Amplifier, Rotation
from ctrlib.train import Protocol, fit

Array = NDArray[np.float64]
D = 4


def shaken_model(name: str, **settings: Any) -> tuple[Any, dict[str, Array]]:
    model = build_model(name, MIXED, embedding_dim=D, **settings).double().eval()
    return model, shaken(model)


def slow_norm(x: Array, w: dict[str, Array], name: str) -> Array:
    """Layer norm of each row, unchanged where there is no such norm."""
    if f"{name}.weight" not in w:
        return x
    spread = np.sqrt(((x - x.mean(axis=1, keepdims=True)) ** 2).mean(axis=1, keepdims=True) + 1e-5)
    return np.asarray((x - x.mean(axis=1, keepdims=True)) / spread * w[f"{name}.weight"] + w[f"{name}.bias"])


# ---- EulerNet ----


def slow_euler_layer(
    r: Array, p: Array, w: dict[str, Array], name: str, masks: Sequence[Array | float] = (1.0, 1.0, 1.0, 1.0)
) -> tuple[Array, Array]:
    """One sample, (n, D) -> (m, D), entry by entry. masks: on logarithms and angles, then on the implicit part's."""
    on_log, on_angle, on_r, on_p = (np.broadcast_to(mask, r.shape) for mask in masks)
    orders, delta, turn = w[f"{name}.orders"], w[f"{name}.log_modulus"], w[f"{name}.angle"]
    count, dim = delta.shape
    out_r, out_p = np.zeros((count, dim)), np.zeros((count, dim))
    for k in range(count):
        for i in range(dim):
            log, angle = delta[k, i], turn[k, i]
            for j in range(len(r)):
                modulus = math.sqrt(r[j, i] ** 2 + p[j, i] ** 2 + 1e-8)
                log += orders[k, j] * math.log(modulus) * on_log[j, i]
                angle += orders[k, j] * math.atan2(p[j, i], r[j, i]) * on_angle[j, i]
            value = cmath.rect(math.exp(log), angle)
            out_r[k, i], out_p[k, i] = value.real, value.imag
    weight, bias = w[f"{name}.implicit.weight"], w[f"{name}.implicit.bias"]
    out_r += np.maximum(weight @ (r * on_r).reshape(-1) + bias, 0.0).reshape(count, dim)
    out_p += np.maximum(weight @ (p * on_p).reshape(-1) + bias, 0.0).reshape(count, dim)
    return slow_norm(out_r, w, f"{name}.real_norm"), slow_norm(out_p, w, f"{name}.imaginary_norm")


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("order_vectors", [(5,), (3, 2)])
def test_euler_net_sample_by_sample(layer_norm: bool, order_vectors: tuple[int, ...]) -> None:
    model, w = shaken_model("EulerNet", order_vectors=list(order_vectors), layer_norm=layer_norm)
    wanted = []
    for row in IDS.numpy():
        e = slow_vectors(w["embedding.weight"], row).reshape(3, D)
        r, p = w["modulus"] * np.cos(e), w["modulus"] * np.sin(e)
        for k in range(len(order_vectors)):
            r, p = slow_euler_layer(r, p, w, f"layers.{k}")
        head, bias = w["head.weight"][0], w["head.bias"][0]
        wanted.append(head @ r.reshape(-1) + head @ p.reshape(-1) + 2 * bias)
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    total, n = 18 * D + 3, 3
    for m in order_vectors:
        total, n = total + n * m + (n * D + 1) * m * D + 2 * D * m + 4 * D * layer_norm, m
    assert model.num_parameters == total + n * D + 1


def drawn(dropout: Dropout, *shape: int) -> Array:
    """The next mask, scaled, that this dropout draws for that shape."""
    return np.asarray(dropout(torch.ones(shape, dtype=torch.float64)).numpy())


def test_dropout_in_an_euler_layer() -> None:
    layer = EulerLayer(3, 2, EulerNetSettings(embedding_dim=D, dropout=0.3, explicit_dropout=0.4)).double()
    w = {f"x.{name}": value for name, value in shaken(layer).items()}
    r, p = torch.randn(2, 6, 3, D, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    masks = []
    for dropout in (layer.explicit_dropout, layer.dropout):
        dropout.generator = torch.Generator().manual_seed(8)
        masks += [drawn(dropout, 6, 3, D) for _ in range(2)]
        dropout.generator.manual_seed(8)
    out = torch.stack(layer(r, p), dim=1).detach().numpy()
    samples = zip(r.numpy(), p.numpy(), *masks, strict=True)
    wanted = [slow_euler_layer(one_r, one_p, w, "x", own) for one_r, one_p, *own in samples]
    np.testing.assert_allclose(out, wanted, rtol=1e-10)


def test_orders_are_the_powers_of_a_product_of_complex_numbers() -> None:
    layer = EulerLayer(3, 2, EulerNetSettings(embedding_dim=D, layer_norm=False)).double().eval()
    with torch.no_grad():
        for value in layer.parameters():
            value.zero_()
        layer.orders.copy_(torch.tensor([[1.0, 1.0, 0.0], [0.0, 3.0, -1.0]]))
    stream = torch.Generator().manual_seed(2)
    r, p = torch.randn(2, 6, 3, D, dtype=torch.float64, generator=stream)
    out = torch.complex(*layer(r, p))
    z = torch.complex(r, p)
    wanted = torch.stack([z[:, 0] * z[:, 1], z[:, 1] ** 3 / z[:, 2]], dim=1)
    torch.testing.assert_close(out, wanted, rtol=1e-5, atol=0)  # the 1e-8 in the modulus


def test_euler_net_starts_with_one_input_for_every_output() -> None:
    model = build_model("EulerNet", MIXED, seed=4, embedding_dim=50, order_vectors=(40, 40))
    assert isinstance(model, EulerNet)
    first, second = model.layers
    assert isinstance(first, EulerLayer) and isinstance(second, EulerLayer)
    torch.testing.assert_close(first.orders.sum(dim=1), torch.ones(40))
    assert (first.orders.max(dim=1).values > 0.9).float().mean() > 0.8
    assert len(first.orders.argmax(dim=1).unique()) == 3
    assert torch.equal(second.orders, torch.eye(40)) and (model.modulus == 1).all()
    for value in (first.log_modulus, first.angle):
        assert abs(value.std().item() / 0.01 - 1) < 0.05
    weight, bound = first.implicit.weight, math.sqrt(6 / (3 * 50 + 40 * 50))
    assert 0.999 * bound < weight.abs().max() <= bound and abs(weight.std().item() / bound * math.sqrt(3) - 1) < 0.02
    assert not first.implicit.bias.any()


# Logged by the public code, whose layers keep 2(2n + 2m) weights of batch norms that they do not use.
EULER_TOTALS = [
    (FRAPPE_FIELDS, {"embedding_dim": 10, "order_vectors": [52]}, 108889 - 2 * (2 * 10 + 2 * 52)),
    (split_rows(16, 665765), {"embedding_dim": 16, "order_vectors": [16]}, 10719265 - 2 * (2 * 16 + 2 * 16)),
]


@pytest.mark.parametrize(("sizes", "settings", "total"), EULER_TOTALS)
def test_euler_net_totals_equal_the_logs(sizes: list[int], settings: dict[str, Any], total: int) -> None:
    assert total_of("EulerNet", sizes, settings) == total


# ---- RFM ----


def slow_rotation(
    angles: Array, w: dict[str, Array], name: str, heads: int, masks: Sequence[Array | float] = (1.0, 1.0)
) -> Array:
    """One sample, (F, I) -> (F, A), field by field and head by head, with the cosine of a difference.

    masks: on the values and on the residual's input.
    """
    fields, omega = len(angles), w[f"{name}.weight"][0]
    q, k, u = (
        np.array([angles[f] @ w[f"{name}.{part}"][f] for f in range(fields)]) for part in ("query", "key", "value")
    )
    out, u = np.zeros_like(q), u * masks[0]
    for h in range(heads):
        part = slice(h * len(omega), (h + 1) * len(omega))
        for f in range(fields):
            for g in range(fields):
                score = sum(omega * np.cos(q[f, part] - k[g, part]))
                out[f, part] += u[g, part] / (1.0 + math.exp(-score))
    return slow_norm(out + (angles * masks[1]) @ w[f"{name}.residual.weight"].T, w, f"{name}.norm")


def slow_amplifier(part: Array, w: dict[str, Array], name: str, norm: str, group: int) -> Array:
    out = np.maximum(w[f"{name}.linear.weight"] @ part + w[f"{name}.linear.bias"], 0.0)
    return slow_norm(out.reshape(-1, group), w, f"{name}.{norm}").reshape(-1)


@pytest.mark.parametrize(
    ("rotations", "heads", "residual", "amplifier"), [(2, 3, True, (8, 4)), (1, 1, False, (4,)), (2, 2, True, ())]
)
def test_rfm_sample_by_sample(rotations: int, heads: int, residual: bool, amplifier: tuple[int, ...]) -> None:
    settings = {"rotations": rotations, "heads": heads, "residual": residual, "amplifier_units": list(amplifier)}
    model, w = shaken_model("RFM", rotation_width=6, group_width=2, **settings)
    wanted = []
    for row in IDS.numpy():
        e = slow_vectors(w["embedding.weight"], row).reshape(3, D)
        angles = e
        for k in range(rotations):
            angles = slow_rotation(angles, w, f"rotations.{k}", heads)
        r, p = np.cos(angles), np.sin(angles)
        if residual:
            first = e @ w["projection.weight"].T + w["projection.bias"]
            r = slow_norm(r + np.cos(first), w, "real_norm")
            p = slow_norm(p + np.sin(first), w, "imaginary_norm")
        r, p = r.reshape(-1), p.reshape(-1)
        for k in range(len(amplifier)):
            r = slow_amplifier(r, w, f"amplifiers.{k}", "real_norm", 2)
            p = slow_amplifier(p, w, f"amplifiers.{k}", "imaginary_norm", 2)
        head, bias = w["head.weight"][0], w["head.bias"][0]
        wanted.append(head @ r + head @ p + 2 * bias)
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    total, inner = 18 * D + ((D + 1) * 6 + 4 * 6) * residual, D
    for _ in range(rotations):
        total, inner = total + 3 * 3 * inner * 6 + inner * 6 + 2 * 6 + 6 // heads, 6
    sizes = [3 * 6, *amplifier]
    total += sum((a + 1) * c + 4 * 2 for a, c in zip(sizes, amplifier, strict=False))
    assert model.num_parameters == total + sizes[-1] + 1


def test_dropout_in_a_rotation_and_an_amplifier() -> None:
    rotation = Rotation(3, D, 6, 2, 0.4).double()
    w = {f"x.{name}": value for name, value in shaken(rotation).items()}
    angles = torch.randn(5, 3, D, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    rotation.dropout.generator = torch.Generator().manual_seed(8)
    on_values = drawn(rotation.dropout, 5 * 2, 3, 3).reshape(5, 2, 3, 3).transpose(0, 2, 1, 3).reshape(5, 3, 6)
    on_input = drawn(rotation.dropout, 5, 3, D)
    rotation.dropout.generator.manual_seed(8)
    samples = zip(angles.numpy(), on_values, on_input, strict=True)
    wanted = [slow_rotation(one, w, "x", 2, masks) for one, *masks in samples]
    np.testing.assert_allclose(rotation(angles).detach().numpy(), wanted, rtol=1e-10)

    amplifier = Amplifier(D, 6, 2, 0.4).double()
    w = {f"x.{name}": value for name, value in shaken(amplifier).items()}
    amplifier.dropout.generator = torch.Generator().manual_seed(8)
    masks = [drawn(amplifier.dropout, 5, D) for _ in range(2)]
    amplifier.dropout.generator.manual_seed(8)
    parts = angles[:, 0], angles[:, 1]
    for out, part, mask, norm in zip(amplifier(*parts), parts, masks, ("real_norm", "imaginary_norm"), strict=True):
        rows = [slow_amplifier(row, w, "x", norm, 2) for row in part.numpy() * mask]
        np.testing.assert_allclose(out.detach().numpy(), rows, rtol=1e-10)


def test_rfm_starts_as_the_public_code_draws() -> None:
    model = build_model(
        "RFM", MIXED, seed=4, embedding_dim=30, rotation_width=80, rotations=1, amplifier_units=[100], group_width=10
    )
    assert isinstance(model, RFM)
    weights = dict(model.named_parameters())
    for part in ("query", "key", "value"):  # Xavier's fans of a tensor (F, I, A): I * A and F * A
        wanted = math.sqrt(2) * math.sqrt(2 / (30 * 80 + 3 * 80))
        assert abs(weights[f"rotations.0.{part}"].std().item() / wanted - 1) < 0.05
    assert abs(weights["rotations.0.residual.weight"].std().item() / math.sqrt(4 / 110) - 1) < 0.1
    assert abs(weights["rotations.0.weight"].std().item() / math.sqrt(4 / 81) - 1) < 0.3
    for name in ("projection", "amplifiers.0.linear"):
        assert abs(weights[f"{name}.weight"].std().item() / 0.01 - 1) < 0.05
        assert not weights[f"{name}.bias"].any()


# ---- both ----

SYSTEMS: dict[str, dict[str, Any]] = {
    "EulerNet": {"order_vectors": [5, 3]},
    "RFM": {"rotation_width": 6, "heads": 2, "amplifier_units": [8], "group_width": 4},
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_weight_gets_a_gradient_and_three_epochs_learn(name: str, tiny: CTRDataset) -> None:
    model = build_model(name, tiny.schema, seed=1, embedding_dim=D, **SYSTEMS[name])
    model.training_loss(tiny.train.ids, tiny.train.labels).backward()
    assert not [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    protocol = Protocol(batch_size=10, max_epochs=3, embedding_dim=D, learning_rate=0.01, embedding_regularizer=1e-4)
    model = build_model(name, tiny.schema, seed=1, embedding_dim=D, **SYSTEMS[name])
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    assert fit(model, tiny, protocol, seed=1).valid.auc > 0.8
    assert not [key for key, value in model.named_parameters() if torch.equal(before[key], value)]


@pytest.mark.parametrize(
    ("name", "second", "places"),
    [("EulerNet", "explicit_dropout", ("explicit_dropout",)), ("RFM", "amplifier_dropout", ("amplifiers",))],
)
def test_both_dropout_rates_act_and_only_in_training(name: str, second: str, places: tuple[str, ...]) -> None:
    for rates in ({"dropout": 0.4, second: 0.0}, {"dropout": 0.0, second: 0.4}):
        model = build_model(name, MIXED, seed=1, embedding_dim=D, **SYSTEMS[name], **rates)
        parts = {place: part.rate for place, part in model.named_modules() if isinstance(part, Dropout)}
        for place, rate in parts.items():
            assert rate == rates[second if any(word in place for word in places) else "dropout"]
        with torch.no_grad():
            for value in model.parameters():
                value.normal_(std=0.5)
        assert not torch.equal(model(IDS), model(IDS)), "masks differ"
        model.eval()
        assert torch.equal(model(IDS), model(IDS))
    assert len(set(parts.values())) == 2


@pytest.mark.parametrize("name", SYSTEMS)
def test_several_passes_have_the_loss_of_one_without_dropout(name: str, tiny: CTRDataset) -> None:
    ids, labels = tiny.train.ids[:40], tiny.train.labels[:40]
    rates = {"dropout": 0.0, "passes": 1}
    one, two = (build_model(name, tiny.schema, seed=3, **SYSTEMS[name], **rates | {"passes": k}) for k in (1, 2))
    torch.testing.assert_close(one.training_loss(ids, labels), two.training_loss(ids, labels))
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(one(ids), labels)
    torch.testing.assert_close(one.training_loss(ids, labels), wanted)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("EulerNet", {"order_vectors": []}, "at least one layer"),
        ("EulerNet", {"order_vectors": 52}, "order_vectors is 52"),
        ("EulerNet", {"explicit_dropout": 1.0}, "outside"),
        ("EulerNet", {"order_vector": [5]}, "Did you mean 'order_vectors'"),
        ("RFM", {"rotation_width": 10, "heads": 3}, "cannot be cut into 3 heads"),
        ("RFM", {"rotations": 0}, "at least 1"),
        ("RFM", {"amplifier_units": [48, 20]}, "it must divide each"),
        ("RFM", {"amplifier_units": 48}, "amplifier_units is 48"),
        ("RFM", {"amplifier_dropout": -0.1}, "outside"),
    ],
)
def test_wrong_settings_say_what_is_wrong(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_model(name, MIXED, **settings)
