"""The baselines' parts against slow float64 code, their settings, their first-order tables, their logged totals."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ctrlib.data import CTRDataset, Field, Schema
from ctrlib.errors import SettingError
from ctrlib.lab import Grid
from ctrlib.lab.grid import _check_record
from ctrlib.lab.records import frame
from ctrlib.lab.verify import run_of
from ctrlib.layers import CIN, MLP, CrossNetwork, Dropout, FieldAttention, FirstOrder, pair_sum
from ctrlib.models import MODELS, build_model
from ctrlib.neurons import FORMATS, NeuronLayer
from ctrlib.train import Protocol, fit

SYSTEMS = ("DNN", "DeepFM", "DCNv2", "xDeepFM", "AutoInt")
SMALL = {"embedding_dim": 4, "hidden_units": [8, 6]}
B, F, D = 3, 4, 5
Array = NDArray[np.float64]


def field_vectors() -> torch.Tensor:
    return torch.randn(B, F, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def shaken(module: torch.nn.Module) -> dict[str, Array]:
    """Fill every weight with normal values and return them, so that no bias is zero."""
    stream = torch.Generator().manual_seed(1)
    for value in module.parameters():
        value.data = torch.randn(value.shape, dtype=torch.float64, generator=stream)
    return {name: value.detach().numpy() for name, value in module.named_parameters()}


def test_pair_sum_is_the_sum_over_pairs() -> None:
    e = field_vectors()
    pairs = [(e[:, i] * e[:, j]).sum(dim=1) for i in range(F) for j in range(i + 1, F)]
    torch.testing.assert_close(pair_sum(e), torch.stack(pairs).sum(dim=0), rtol=1e-12, atol=1e-12)


def test_cross_network_layer_by_layer() -> None:
    network = CrossNetwork(D, 3).double()
    w = shaken(network)
    x0 = field_vectors()[:, 0]
    x = x0.numpy()
    for k in range(3):
        mapped = np.array([w[f"layers.{k}.weight"] @ row + w[f"layers.{k}.bias"] for row in x])
        x = x0.numpy() * mapped + x
    np.testing.assert_allclose(network(x0).detach().numpy(), x, rtol=1e-12)
    layer = NeuronLayer(FORMATS["CrossNetV2"], D).double()
    layer.W.load_state_dict(network.layers[0].state_dict())  # type: ignore[operator]
    network.layers = network.layers[:1]
    assert torch.equal(layer(x0, x0), network(x0)), "one layer is the format CrossNetV2"


def test_cin_sums_over_fields_and_maps() -> None:
    maps = (3, 2)
    network = CIN(F, maps).double()
    w, e = shaken(network), field_vectors().numpy()
    wanted = []
    for x0 in e:
        before, sums = x0, []
        for k, count in enumerate(maps):
            weight, bias = w[f"layers.{k}.weight"], w[f"layers.{k}.bias"]
            after = np.zeros((count, D))
            for n in range(count):
                for i in range(F):
                    for m in range(len(before)):
                        after[n] += weight[n, i * len(before) + m] * x0[i] * before[m]
                after[n] += bias[n]
            sums += [row.sum() for row in after]
            before = after
        wanted.append(w["head.weight"][0] @ np.array(sums) + w["head.bias"][0])
    np.testing.assert_allclose(network(torch.from_numpy(e)).detach().numpy(), wanted, rtol=1e-11)


@pytest.mark.parametrize(
    ("residual", "scaled", "layer_norm", "width"),
    [(True, False, False, 6), (False, True, True, 6), (True, True, True, D + 1), (True, False, True, D)],
)
def test_attention_sample_by_sample(residual: bool, scaled: bool, layer_norm: bool, width: int) -> None:
    heads = 5 if width == D else 2
    layer = FieldAttention(D, width, heads, residual=residual, scaled=scaled, layer_norm=layer_norm).double()
    w, e = shaken(layer), field_vectors().numpy()
    assert ("residual.weight" in w) == (residual and width != D)
    got = layer(torch.from_numpy(e)).detach().numpy()
    for x, out in zip(e, got, strict=True):
        np.testing.assert_allclose(out, slow_attention(x, w, heads, residual, scaled), rtol=1e-10, atol=1e-12)


def slow_attention(x: Array, w: dict[str, Array], heads: int, residual: bool, scaled: bool) -> Array:
    """One sample (F, I) -> (F, A), head by head and field by field."""
    q, k, u = (x @ w[f"{name}.weight"].T for name in ("query", "key", "value"))
    piece = q.shape[1] // heads
    out = np.zeros_like(q)
    for h in range(heads):
        part = slice(h * piece, (h + 1) * piece)
        for f in range(len(x)):
            scores = np.array([q[f, part] @ k[g, part] for g in range(len(x))])
            scores = np.exp(scores / np.sqrt(piece) if scaled else scores)
            out[f, part] = sum(s * u[g, part] for g, s in enumerate(scores / scores.sum()))
    if residual:
        out = out + (x @ w["residual.weight"].T if "residual.weight" in w else x)
    if "norm.weight" in w:
        centred = out - out.mean(axis=1, keepdims=True)
        out = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * w["norm.weight"] + w["norm.bias"]
    return np.asarray(np.maximum(out, 0.0))


def test_first_order_adds_weights_and_skips_padding() -> None:
    schema = Schema((Field("a"), Field("tags", "sequence", max_len=3)), (4, 6))
    layer = FirstOrder(schema).double()
    w = shaken(layer)["embedding.weight"][:, 0]
    pad = schema.offsets[1]
    ids = torch.tensor([[1, pad + 1, pad + 2, pad], [2, pad, pad, pad]])
    wanted = [w[1] + w[pad + 1] + w[pad + 2], w[2]]
    bias = layer.bias
    assert bias is not None
    np.testing.assert_allclose((layer(ids) - bias).detach().numpy(), wanted, rtol=1e-12)


def test_mlp_order_is_map_norm_activation_dropout() -> None:
    mlp = MLP(D, (6,), batch_norm=True, dropout=0.5).double()
    x = field_vectors().flatten(0, 1)
    z = mlp.linears[0](x)
    normed = (z - z.mean(dim=0)) / torch.sqrt(z.var(dim=0, unbiased=False) + 1e-5)
    out = mlp(x)
    kept = out != 0
    torch.testing.assert_close(out[kept], 2 * torch.relu(normed)[kept])
    assert (torch.relu(normed) > 0).sum() > kept.sum(), "dropout comes last"
    assert MLP(D, ()).forward(x) is x


@pytest.mark.parametrize("name", SYSTEMS)
def test_batch_norm_and_dropout_are_where_the_settings_say(name: str, tiny: CTRDataset) -> None:
    plain, other = (
        build_model(name, tiny.schema, seed=2, batch_norm=on, dropout=rate, **SMALL)
        for on, rate in ((False, 0.0), (True, 0.3))
    )
    norms = [part for part in other.modules() if isinstance(part, torch.nn.BatchNorm1d)]
    assert [norm.num_features for norm in norms] == SMALL["hidden_units"]
    assert other.num_parameters - plain.num_parameters == 2 * (8 + 6)
    rates = {part.rate for part in other.modules() if isinstance(part, Dropout)}
    assert rates == {0.3}
    ids = tiny.train.ids[:50]
    assert torch.equal(plain(ids), plain(ids))
    assert not torch.equal(other(ids), other(ids)), "masks differ"
    other.eval()
    assert torch.equal(other(ids), other(ids))


@pytest.mark.parametrize("name", SYSTEMS)
def test_one_epoch_learns_and_moves_every_weight(name: str, tiny: CTRDataset) -> None:
    protocol = Protocol(batch_size=10, max_epochs=1, embedding_dim=4, learning_rate=0.01, embedding_regularizer=1e-4)
    model = build_model(name, tiny.schema, seed=1, **SMALL)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    assert fit(model, tiny, protocol, seed=1).valid.auc > 0.8
    assert not [key for key, value in model.named_parameters() if torch.equal(before[key], value)]


@pytest.mark.parametrize("name", SYSTEMS)
def test_one_epoch_with_batch_norm_moves_its_statistics(name: str, tiny: CTRDataset) -> None:
    model = build_model(name, tiny.schema, seed=1, batch_norm=True, **SMALL)
    fit(model, tiny, Protocol(batch_size=50, max_epochs=1, embedding_dim=4), seed=1)
    statistics = {key: value for key, value in model.state_dict().items() if key.endswith("running_var")}
    assert len(statistics) == 2 and all((value != 1).all() for value in statistics.values())


def test_several_passes_add_the_first_order_term_to_each(tiny: CTRDataset) -> None:
    ids, labels = tiny.train.ids[:40], tiny.train.labels[:40]
    one, two = (
        build_model("DeepFM", tiny.schema, seed=3, dropout=0.0, loss=loss, passes=passes, **SMALL)
        for loss, passes in (("bce", 1), ("bce", 2))
    )
    torch.testing.assert_close(one.training_loss(ids, labels), two.training_loss(ids, labels))
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(one(ids), labels)
    torch.testing.assert_close(one.training_loss(ids, labels), wanted)


@pytest.mark.parametrize(("name", "settings"), [("DeepFM", {}), ("xDeepFM", {}), ("AutoInt", {"wide": True})])
def test_first_order_table_starts_and_is_regularised_like_an_embedding(name: str, settings: dict[str, Any]) -> None:
    schema = Schema((Field("a"), Field("b")), (3000, 2000))
    model = build_model(name, schema, seed=5, **SMALL, **settings)
    assert model.first_order is not None
    table = model.first_order.embedding.weight
    assert any(table is p for p in model.embedding_parameters())
    assert table.shape == (5000, 1) and table[0] == 0.0 and table[3000] == 0.0
    assert abs(table[1:3000].std().item() / 1e-4 - 1) < 0.05
    assert torch.equal(model.embedding.weight, build_model("DNN", schema, seed=5, **SMALL).embedding.weight)
    other = build_model(name, schema, seed=6, **SMALL, **settings)
    assert other.first_order is not None and not torch.equal(table, other.first_order.embedding.weight)


def test_widths_are_lists_in_records_and_tuples_here() -> None:
    protocol = Protocol()
    run, same = (
        Grid("trial")
        .add("ml-100k", {"x": ("xDeepFM", {"cin_units": cin, "hidden_units": hidden})}, protocol, [1])
        .runs[0]
        for cin, hidden in (([7], [8, 6]), ((7,), (8, 6)))
    )
    assert run.path == same.path and run.full_settings == same.full_settings
    record = {"experiment": "trial", "dataset": "ml-100k", "label": "x", "model": "xDeepFM", "seed": 1}
    record |= {"settings": run.full_settings, "protocol": protocol.to_dict(), "status": "completed"}
    read = json.loads(json.dumps(record))
    _check_record(same, read, run.path)
    assert run_of(read).path == run.path
    assert frame([read]).groupby("settings.hidden_units").size().to_dict() == {(8, 6): 1}
    defaults = Grid("trial").add("ml-100k", {"a": ("DNN", {"hidden_units": [400, 400, 400]})}, protocol, [1]).runs[0]
    assert "hidden_units" not in defaults.changed_settings


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("DNN", {"hidden_units": 400}, "hidden_units is 400"),
        ("DNN", {"hidden_units": [400, 0]}, "list of layer widths"),
        ("DNN", {"activation": "rellu"}, "Did you mean 'relu'"),
        ("DeepFM", {"hiden_units": [4]}, "Did you mean 'hidden_units'"),
        ("DCNv2", {"structure": "paralel"}, "Did you mean 'parallel'"),
        ("DCNv2", {"cross_layers": 0}, "at least 1"),
        ("xDeepFM", {"cin_units": []}, "at least one CIN layer"),
        ("AutoInt", {"attention_dim": 10, "heads": 3}, "cannot be cut into 3 heads"),
        ("AutoInt", {"heads": 0}, "at least 1"),
    ],
)
def test_wrong_settings_say_what_is_wrong(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_model(name, Schema((Field("a"), Field("b")), (5, 6)), **settings)


def test_without_hidden_units_the_mlp_is_left_out() -> None:
    schema = Schema((Field("a"), Field("b")), (5, 6))
    vocabulary, width = 11, 2 * 4
    bare = {"embedding_dim": 4, "hidden_units": []}
    assert build_model("DeepFM", schema, **bare).num_parameters == vocabulary * 4 + vocabulary + 1
    cross = build_model("CrossNetV2", schema, embedding_dim=4)
    for structure in ("parallel", "stacked"):
        assert build_model("DCNv2", schema, structure=structure, **bare).num_parameters == cross.num_parameters
    attention = 3 * 4 * 6 + 4 * 6 + 3 * 6 * 6
    model = build_model("AutoInt", schema, attention_layers=2, attention_dim=6, **bare)
    assert model.num_parameters == vocabulary * 4 + attention + width // 4 * 6 + 1


# Total weights that the public benchmark BARS logged. F fields, V rows of the table (from its logged LR totals).
# Most of its DNN totals count the MLP twice and are left out.
FRAPPE, MOVIELENS, AVAZU, CRITEO, CRITEO_X4 = (10, 5389), (3, 90239), (22, 1298599), (39, 2086316), (39, 910747)
WITH_NORM = {"batch_norm": True}
ATTENTION = {"layer_norm": True, "attention_dim": 128, "heads": 4}
TOTALS: list[tuple[str, tuple[int, int], dict[str, Any], int]] = [
    ("DNN", AVAZU, {}, 13395591),
    ("DeepFM", FRAPPE, WITH_NORM, 423280 + 1),  # library version 1 has no first-order bias
    ("DeepFM", MOVIELENS, WITH_NORM, 1328630 + 1),
    ("DeepFM", AVAZU, WITH_NORM, 14696590 + 1),
    ("DeepFM", CRITEO, WITH_NORM, 23429477 + 1),
    ("DCNv2", FRAPPE, {"cross_layers": 4} | WITH_NORM, 458391),
    ("DCNv2", MOVIELENS, {"cross_layers": 5} | WITH_NORM, 1243071),
    ("DCNv2", AVAZU, {"cross_layers": 5} | WITH_NORM, 13641311),
    ("DCNv2", CRITEO, {"hidden_units": [500] * 3}, 22018021),
    ("DCNv2", CRITEO_X4, {"hidden_units": [1000] * 5, "embedding_dim": 16} | WITH_NORM, 20382577),
    ("xDeepFM", FRAPPE, {"cin_units": [64]} | WITH_NORM, 429809),
    ("xDeepFM", MOVIELENS, {"cin_units": [64] * 3}, 1351767),
    ("xDeepFM", AVAZU, {"cin_units": [64]} | WITH_NORM, 14727695),
    ("xDeepFM", CRITEO, {}, 23461462),
    ("AutoInt", FRAPPE, {"hidden_units": [], "attention_layers": 6, "layer_norm": False}, 306051),
    ("AutoInt", FRAPPE, {"attention_layers": 5} | WITH_NORM, 622180),
    ("AutoInt", MOVIELENS, {"hidden_units": [], "attention_layers": 2, "wide": True}, 1047798),
    ("AutoInt", MOVIELENS, {"attention_layers": 2, "wide": True} | WITH_NORM, 1383799),
    ("AutoInt", AVAZU, {"hidden_units": [], "attention_layers": 4, "heads": 1}, 13142407),
    ("AutoInt", AVAZU, {"attention_layers": 5, "attention_dim": 256, "heads": 2} | WITH_NORM, 14202856),
    ("AutoInt", CRITEO, {"hidden_units": [], "attention_dim": 256, "wide": True}, 23364453),
    ("AutoInt", CRITEO, {"attention_dim": 256, "heads": 2, "wide": True} | WITH_NORM, 23844454),
]


@pytest.mark.parametrize(("name", "size", "settings", "total"), TOTALS)
def test_totals_equal_the_logs(name: str, size: tuple[int, int], settings: dict[str, Any], total: int) -> None:
    fields, rows = size
    schema = Schema(tuple(Field(f"f{k}") for k in range(fields)), (rows - 2 * (fields - 1), *[2] * (fields - 1)))
    values = {"embedding_dim": 10} | (ATTENTION if name == "AutoInt" else {}) | settings
    entry = MODELS[name]
    with torch.device("meta"):
        model = entry.build(name, schema, entry.settings(**values))
    assert model.num_parameters == total
