"""Every format against slow float64 numpy loops, parameter totals against the logs, and the algebra."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ctrlib.data import CTRDataset, Field, Schema
from ctrlib.errors import SettingError
from ctrlib.layers import Bilinear
from ctrlib.layers import bilinear as blocks_of_pairs
from ctrlib.models import build_model
from ctrlib.neurons import FORMATS, QUADRATIC, NeuronLayer

Array = NDArray[np.float64]
WIDTH, BATCH = 12, 5
ROOT = Path(__file__).resolve().parent.parent


def affine(layer: NeuronLayer, name: str) -> Callable[[Array], Array]:
    """The map as explicit sums over inputs."""
    weight = getattr(layer, name).weight.detach().numpy()
    bias = getattr(layer, name).bias.detach().numpy()

    def apply(x: Array) -> Array:
        out = np.empty((len(x), len(bias)))
        for b in range(len(x)):
            for k in range(len(bias)):
                out[b, k] = bias[k] + sum(weight[k, i] * x[b, i] for i in range(x.shape[1]))
        return out

    return apply


def bilinear(layer: NeuronLayer) -> Callable[[Array], Array]:
    """The form as a sum over all ordered pairs of inputs."""
    tensor, bias = layer.B.weight.detach().numpy(), layer.B.bias.detach().numpy()

    def apply(x: Array) -> Array:
        out = np.tile(bias, (len(x), 1))
        for b, k in np.ndindex(len(x), len(bias)):
            out[b, k] += sum(tensor[k, i, j] * x[b, i] * x[b, j] for i, j in np.ndindex(tensor.shape[1:]))
        return out

    return apply


def positive(a: Array) -> Array:
    return np.where(a > 0, a, 0.0)


def parts(a: Array, count: int) -> list[Array]:
    size = a.shape[1] // count
    return [a[:, k * size : (k + 1) * size] for k in range(count)]


def by_hand(name: str, layer: NeuronLayer, x: Array, x0: Array) -> Array:
    """The equations of Table 1, written out again without ctrlib."""
    f: dict[str, Any] = {key: affine(layer, key) for key in ("W", "W1", "W2") if hasattr(layer, key)}
    form = bilinear(layer) if hasattr(layer, "B") else None
    two = parts(f["W"](x), 2) if "W" in f else [x, x]
    match name:
        case "T1":
            return form(x) + f["W"](x)  # type: ignore[misc]
        case "T2":
            return form(x)  # type: ignore[misc]
        case "T3":
            return f["W"](x**2)  # type: ignore[no-any-return]
        case "T4":
            return f["W"](x) ** 2  # type: ignore[no-any-return]
        case "T5":
            return two[0] * two[1]
        case "T6":
            return form(x) + f["W"](x**2)  # type: ignore[misc]
        case "T7":
            u, v = parts(f["W1"](x), 2)
            return u * v + f["W2"](x**2)  # type: ignore[no-any-return]
        case "T8":
            u, v, w = parts(f["W"](x), 3)
            return u * v + w
        case "T9":
            return x * f["W"](x) + x  # type: ignore[no-any-return]
        case "T10":
            return x * two[0] + two[1]
        case "T11":
            return np.hstack([two[0], two[1] ** 2])
        case "T12":
            u, v = parts(f["W1"](x), 2)
            return np.hstack([u * v, f["W2"](x**2)])
        case "T13":
            u, v, w = parts(f["W"](x), 3)
            return np.hstack([u * v, w])
        case "T14":
            return np.hstack([two[0] * two[1], two[1]])
        case "T15":
            u = f["W"](x)
            return np.hstack([u**2, u])
        case "T16":
            return x * two[0] * two[1] + x
        case "T17":
            return x * two[0] + two[1] + x
        case "T18":
            return f["W2"](np.hstack([x * f["W1"](x), x]))  # type: ignore[no-any-return]
        case "T19":
            return x * positive(f["W"](x)) + x
        case "T20":
            return (x + 1.0) * (f["W"](x) + 1.0) - 1.0  # type: ignore[no-any-return]
        case "T21":
            return (x * f["W"](x)) ** 2 + x  # type: ignore[no-any-return]
        case "T22":
            return x * f["W"](x) + layer.alpha.detach().numpy() * x  # type: ignore[no-any-return]
        case "T23":
            return two[0] * two[1] + x
        case "T24":
            return two[0] * positive(two[1]) + x
        case "T25":
            return x * f["W2"](positive(f["W1"](x))) + x  # type: ignore[no-any-return]
        case "T26":
            return x * (positive(two[0]) + positive(two[1])) / 2 + x
        case "T27":
            return x**2 * (positive(two[0]) + positive(two[1])) / 2 + x
        case "T28":
            return x * (positive(two[0]) ** 2 + positive(two[1]) ** 2) / 2 + x
        case "T29":
            return x * (positive(two[0]) + positive(two[1]) ** 2) / 2 + x
        case "T30":
            return (x * positive(two[0]) + x**2 * positive(two[1])) / 2 + x
        case "CrossNetV2":
            return x0 * f["W"](x) + x  # type: ignore[no-any-return]
        case "MLP":
            return f["W"](x)  # type: ignore[no-any-return]
    raise AssertionError(name)


@pytest.mark.parametrize("name", FORMATS)
def test_format_equals_numpy_in_float64(name: str) -> None:
    torch.manual_seed(1)
    layer = NeuronLayer(FORMATS[name], WIDTH).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x, x0 = torch.randn(2, BATCH, WIDTH, dtype=torch.float64)
    expected = by_hand(name, layer, x.numpy(), x0.numpy())
    assert layer(x, x0).shape == (BATCH, WIDTH)
    assert np.abs(layer(x, x0).detach().numpy() - expected).max() <= 1e-10 * np.abs(expected).max()


@pytest.mark.parametrize("name", [*FORMATS])
def test_gradient_equals_finite_differences(name: str) -> None:
    torch.manual_seed(2)
    layer = NeuronLayer(FORMATS[name], 4).double()
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    weights = list(layer.parameters())
    assert torch.autograd.gradcheck(lambda a, *_: layer(a, a), (x, *weights))


@pytest.mark.parametrize("rows", [1, 3, 7, 512])
def test_bilinear_over_distinct_pairs_equals_the_full_form(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many samples a block of pairs has, the last block fewer."""
    monkeypatch.setattr(blocks_of_pairs, "BLOCK_ROWS", rows)
    torch.manual_seed(3)
    form = Bilinear(9, 4).double()
    assert form.weight.shape == (4, 9, 9)  # the parameter stays the full tensor
    x = torch.randn(7, 9, dtype=torch.float64, requires_grad=True)
    full = torch.nn.functional.bilinear(x, x, form.weight, form.bias)
    ours = form(x)
    assert (ours - full).abs().max() <= 1e-12
    wanted = torch.autograd.grad(full.sin().sum(), [x, form.weight, form.bias], retain_graph=True)
    got = torch.autograd.grad(ours.sin().sum(), [x, form.weight, form.bias])
    for a, b in zip(got, wanted, strict=True):
        assert (a - b).abs().max() <= 1e-12


def logged_totals() -> list[dict[str, str]]:
    with (ROOT / "data" / "papers" / "qnn_table1.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["logged_parameters"]]


def test_parameter_totals_equal_all_sixty_logs() -> None:
    rows = logged_totals()
    assert len(rows) == 60
    schema = Schema(tuple(Field(f"f{k}") for k in range(39)), (910747 - 76, *[2] * 38))
    for row in rows:
        with torch.device("meta"):
            model = build_on_meta(row["format"], schema, bool(int(row["logged_batch_norm_parameters"] or 0)))
        assert model.num_parameters == int(row["logged_parameters"]), row["format"]


def build_on_meta(name: str, schema: Schema, batch_norm: bool) -> Any:
    from ctrlib.models.neuron_network import NeuronNetworkSettings, build

    return build(name, schema, NeuronNetworkSettings(batch_norm=batch_norm))


@pytest.mark.parametrize("name", ["T11", "T12", "T13", "T14", "T15", "T25"])
def test_odd_width_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=f"{name} needs an even width"):
        NeuronLayer(FORMATS[name], 7)


def test_table_is_complete_and_prints() -> None:
    assert [f"T{k}" for k in range(1, 31)] == QUADRATIC
    assert sum(FORMATS[name].in_paper for name in QUADRATIC) == 25
    assert FORMATS["T9"].latex == r"x \odot (W x) + x"
    assert FORMATS["T13"].latex == r"[\,u \odot v \,\|\, w\,],\quad (u, v, w) = W x"
    assert len({form.latex for form in FORMATS.values()}) == len(FORMATS)


def test_t22_equals_t9_at_the_start_and_t19_with_open_gates() -> None:
    torch.manual_seed(4)
    x = torch.rand(6, 8, dtype=torch.float64)
    t9, t19, t22 = (NeuronLayer(FORMATS[name], 8).double() for name in ("T9", "T19", "T22"))
    for layer in (t19, t22):
        layer.W.load_state_dict(t9.W.state_dict())  # type: ignore[operator]
    assert torch.equal(t9(x, x), t22(x, x))
    torch.nn.init.constant_(t9.W.bias, 100.0)  # type: ignore[arg-type]
    torch.nn.init.constant_(t19.W.bias, 100.0)  # type: ignore[arg-type]
    assert torch.equal(t9(x, x), t19(x, x))


def test_formats_commute_with_a_permutation_of_the_batch() -> None:
    schema = Schema(tuple(Field(name) for name in "abc"), (5, 6, 7))
    ids = torch.stack([torch.randint(1, 5, (20,)), torch.randint(6, 11, (20,)), torch.randint(12, 18, (20,))], 1)
    order = torch.randperm(20)
    for name in ("T1", "T9", "T18", "CrossNetV2", "MLP"):
        model = build_model(name, schema, embedding_dim=4).double().eval()
        torch.testing.assert_close(model(ids)[order], model(ids[order]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["T1", "T11", "T26", "CrossNetV2", "MLP"])
def test_a_model_comes_back_from_a_pickle(name: str, tiny: CTRDataset) -> None:
    model = build_model(name, tiny.schema, seed=1, embedding_dim=4).eval()
    before = model(tiny.test.ids)
    assert torch.equal(pickle.loads(pickle.dumps(model))(tiny.test.ids), before)
