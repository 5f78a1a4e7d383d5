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
from ctrlib.layers import (
    CIN,
    MLP,
    CrossNetwork,
    Dropout,
    FieldAttention,
    FirstOrder,
    GatedCrossNetwork,
    pair_sum,
    reset_linear_maps,
)
from ctrlib.models import MODELS, build_model
from ctrlib.models.dcn import CrossModel
from ctrlib.models.finalmlp import FinalMLP
from ctrlib.neurons import FORMATS, NeuronLayer
from ctrlib.train import Protocol, fit

SYSTEMS = (
    "DNN",
    "Wide&Deep",
    "PNN",
    "DLRM",
    "DeepFM",
    "CL4CTR",
    "DCN",
    "DCNv2",
    "GDCN",
    "FinalMLP",
    "DualMLP",
    "FINAL",
)
SYSTEMS += ("FINAL", "xDeepFM", "AutoInt", "MaskNet")
SMALL = {"embedding_dim": 4, "hidden_units": [8, 6]}
SECOND: dict[str, dict[str, Any]] = {
    "FinalMLP": {"second_units": [4], "gate_units": [5], "heads": 2, "contexts": [["a"], ["b", "c"]]},
    "DualMLP": {"second_units": [4]},
    "FINAL": {"second_units": [4]},
    "MaskNet": {"blocks": 2, "block_width": 5},
    "CL4CTR": {"encoder_units": 7, "encoder_dropout": 0.3, "mask_rate": 0.3},
}
B, F, D = 3, 4, 5
Array = NDArray[np.float64]


def field_vectors() -> torch.Tensor:
    return torch.randn(B, F, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def small(name: str) -> dict[str, Any]:
    return SMALL | SECOND.get(name, {})


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
        build_model(name, tiny.schema, seed=2, batch_norm=on, dropout=rate, **small(name))
        for on, rate in ((False, 0.0), (True, 0.3))
    )
    norms = [part for part in other.modules() if isinstance(part, torch.nn.BatchNorm1d)]
    widths = [8, 6, *small(name).get("second_units", [])]
    assert [norm.num_features for norm in norms] == widths
    assert other.num_parameters - plain.num_parameters == 2 * sum(widths)
    parts = [part for place, part in other.named_modules() if not place.startswith("gates.")]
    rates = {part.rate for part in parts if isinstance(part, Dropout)}
    assert rates == {0.3}
    ids = tiny.train.ids[:50]
    assert torch.equal(plain(ids), plain(ids))
    assert not torch.equal(other(ids), other(ids)), "masks differ"
    other.eval()
    assert torch.equal(other(ids), other(ids))


@pytest.mark.parametrize("name", SYSTEMS)
def test_three_epochs_learn_and_move_every_weight(name: str, tiny: CTRDataset) -> None:
    protocol = Protocol(batch_size=10, max_epochs=3, embedding_dim=4, learning_rate=0.01, embedding_regularizer=1e-4)
    model = build_model(name, tiny.schema, seed=1, **small(name))
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    assert fit(model, tiny, protocol, seed=1).valid.auc > 0.8
    assert not [key for key, value in model.named_parameters() if torch.equal(before[key], value)]


@pytest.mark.parametrize("name", SYSTEMS)
def test_one_epoch_with_batch_norm_moves_its_statistics(name: str, tiny: CTRDataset) -> None:
    model = build_model(name, tiny.schema, seed=1, batch_norm=True, **small(name))
    fit(model, tiny, Protocol(batch_size=50, max_epochs=1, embedding_dim=4), seed=1)
    statistics = {key: value for key, value in model.state_dict().items() if key.endswith("running_var")}
    assert len(statistics) == 2 + ("second_units" in small(name)) and all(
        (value != 1).all() for value in statistics.values()
    )


@pytest.mark.parametrize("name", ["DeepFM", "FinalMLP", "MaskNet"])
def test_without_dropout_several_passes_have_the_loss_of_one(name: str, tiny: CTRDataset) -> None:
    ids, labels = tiny.train.ids[:40], tiny.train.labels[:40]
    one, two = (build_model(name, tiny.schema, seed=3, dropout=0.0, passes=passes, **small(name)) for passes in (1, 2))
    torch.testing.assert_close(one.training_loss(ids, labels), two.training_loss(ids, labels))
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(one(ids), labels)
    torch.testing.assert_close(one.training_loss(ids, labels), wanted)


@pytest.mark.parametrize(
    ("name", "settings"), [("DeepFM", {}), ("xDeepFM", {}), ("AutoInt", {"wide": True}), ("FiBiNET", {})]
)
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
        ("DCN", {"structure": "paralel"}, "Did you mean 'parallel'"),
        ("DCN", {"cross_layers": 0}, "at least 1"),
        ("DCNv2", {"structure": "paralel"}, "Did you mean 'parallel'"),
        ("DCNv2", {"cross_layers": 0}, "at least 1"),
        ("GDCN", {"structure": "paralel"}, "Did you mean 'parallel'"),
        ("GDCN", {"cross_layers": 0}, "at least 1"),
        ("FinalMLP", {"second_units": 400}, "second_units is 400"),
        ("FinalMLP", {"second_dropout": 1.0}, "outside"),
        ("FinalMLP", {"hidden_units": [8], "second_units": [6], "heads": 4}, "4 heads do not divide both"),
        ("FinalMLP", {"heads": 0}, "at least 1"),
        ("FinalMLP", {"contexts": [["aa"], []]}, "context field 'aa'. Did you mean 'a'"),
        ("FinalMLP", {"contexts": [["a", "a"], []]}, "named once"),
        ("FinalMLP", {"contexts": ["a", "b"]}, "list of names for each of the two gates"),
        ("FinalMLP", {"contexts": 2}, "list of names for each of the two gates"),
        ("FinalMLP", {"gates": False, "contexts": [["a"], []]}, "set gates to True"),
        ("FinalMLP", {"loss": "cosine", "passes": 2}, "compares states"),
        ("DualMLP", {"heads": 2}, "without the bilinear form"),
        ("xDeepFM", {"cin_units": []}, "at least one CIN layer"),
        ("AutoInt", {"attention_dim": 10, "heads": 3}, "cannot be cut into 3 heads"),
        ("AutoInt", {"heads": 0}, "at least 1"),
        ("AFN", {"neurons": 0}, "at least 1 logarithmic neuron"),
        ("AFN", {"neuron_units": 4}, "neuron_units is 4"),
        ("AFN", {"neuron_dropout": 1.0}, "outside"),
        ("AFN", {"loss": "cosine", "passes": 2}, "compares states"),
        ("EDCN", {"bridge": "produkt"}, "Did you mean 'product'"),
        ("EDCN", {"activation": "rellu"}, "Did you mean 'relu'"),
        ("EDCN", {"cross_layers": 0}, "at least 1"),
        ("EDCN", {"temperature": 0.0}, "must be above 0"),
        ("FiBiNET", {"maps": "interactions"}, "Did you mean 'interaction'"),
        ("FiBiNET", {"excitation": "sigmoyd"}, "Did you mean 'sigmoid'"),
        ("FiBiNET", {"reduction": 0}, "reduction is 0"),
        ("FiGNN", {"graph_layers": 0}, "at least 1"),
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
    ("DCN", FRAPPE, WITH_NORM, 418591),
    ("DCN", MOVIELENS, {"cross_layers": 4} | WITH_NORM, 1238661),
    ("DCN", AVAZU, {}, 13397131),
    ("DCN", CRITEO, {}, 21343491),
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
    ("AFN", FRAPPE, {"neurons": 1000, "neuron_units": [400], "hidden_units": []}, 4066711),
    ("AFN", FRAPPE, {"neurons": 1000, "neuron_units": [400]}, 4482205),
    ("AFN", MOVIELENS, {"neurons": 800, "neuron_units": [200], "hidden_units": []}, 2506797),
    ("AFN", MOVIELENS, {"neurons": 800, "neuron_units": [200]}, 3742791),
    ("AFN", AVAZU, {"neurons": 1500, "neuron_units": [400], "hidden_units": []}, 19022835),
    ("AFN", AVAZU, {"neurons": 1500, "neuron_units": [1200]} | WITH_NORM, 44424829),
    ("AFN", CRITEO, {"neurons": 400, "neuron_units": [800], "hidden_units": []}, 24081239),
    ("AFN", CRITEO, {"neurons": 100, "neuron_units": [200]} | WITH_NORM, 42411303),
    ("EDCN", FRAPPE, {}, 86351),
    ("EDCN", MOVIELENS, {"cross_layers": 2, "regulation": False}, 904701),
    ("EDCN", AVAZU, {"regulation": False}, 13136471),
    ("EDCN", CRITEO, {}, 21329055),
    ("FiBiNET", FRAPPE, {"maps": "all", "reduction": 2, "shared_maps": True} | WITH_NORM, 743480),
    ("FiBiNET", MOVIELENS, {"maps": "all", "reduction": 0.3, "shared_maps": True} | WITH_NORM, 1340790),
    ("FiBiNET", AVAZU, {"maps": "all", "shared_maps": True} | WITH_NORM, 16456998),
    ("FiBiNET", CRITEO, {"reduction": 12, "shared_maps": True}, 29273411),
    ("FiGNN", FRAPPE, {"graph_layers": 17, "gru": False}, 89090),
    ("FiGNN", MOVIELENS, {"graph_layers": 13, "gru": False}, 910440),
    ("FiGNN", AVAZU, {"graph_layers": 8, "gru": False}, 13026140),
    ("FiGNN", CRITEO, {"graph_layers": 6}, 20925920),
]


def total_of(name: str, sizes: list[int], settings: dict[str, Any]) -> int:
    """Number of weights, counted without allocating them."""
    schema = Schema(tuple(Field(f"f{k}") for k in range(len(sizes))), tuple(sizes))
    entry = MODELS[name]
    with torch.device("meta"):
        return entry.build(name, schema, entry.settings(**settings)).num_parameters


def split_rows(fields: int, rows: int) -> list[int]:
    """Some vocabulary sizes with that sum; which, the total does not tell."""
    return [rows - 2 * (fields - 1), *[2] * (fields - 1)]


@pytest.mark.parametrize(("name", "size", "settings", "total"), TOTALS)
def test_totals_equal_the_logs(name: str, size: tuple[int, int], settings: dict[str, Any], total: int) -> None:
    values = {"embedding_dim": 10} | (ATTENTION if name == "AutoInt" else {}) | settings
    assert total_of(name, split_rows(*size), values) == total


# ---- cross networks with an MLP, and two MLPs: each whole model in float64, sample by sample ----

MIXED = Schema((Field("a"), Field("tags", "sequence", max_len=3), Field("b")), (5, 6, 7))
NAMES = ("a", "tags", "b")
IDS = torch.tensor([[1, 6, 7, 5, 12], [4, 5, 5, 5, 17], [2, 8, 9, 10, 15]])  # padding of the tags: 5
WIDTH = 3 * 4


def shaken_model(name: str, **settings: Any) -> tuple[Any, dict[str, Array]]:
    """A model in evaluation mode, and its weights and batch statistics, all of them random."""
    model = build_model(name, MIXED, **SMALL | settings).double().eval()
    return model, shaken_state(model)


def shaken_state(model: torch.nn.Module) -> dict[str, Array]:
    """Fill weights and batch statistics with random values and return them."""
    weights = shaken(model)
    for key, value in model.named_buffers():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(key)))
            weights[key] = value.numpy()
    return weights


def slow_vectors(table: Array, row: Array, names: tuple[str, ...] = NAMES) -> Array:
    """The vectors of the named fields, end to end, from a table that holds the rows of these fields alone."""
    parts, start = [], 0
    for name in names:
        k = NAMES.index(name)
        first, last = MIXED.columns[k]
        own = [i - MIXED.offsets[k] for i in row[first:last]]
        real = [table[start + i] for i in own if len(own) == 1 or i != 0]
        parts.append(np.mean(real, axis=0) if real else np.zeros(table.shape[1]))
        start += MIXED.vocab_sizes[k]
    return np.concatenate(parts)


def slow_mlp(x: Array, w: dict[str, Array], name: str) -> Array:
    k = 0
    while f"{name}.linears.{k}.weight" in w:
        x = w[f"{name}.linears.{k}.weight"] @ x + w[f"{name}.linears.{k}.bias"]
        norm = f"{name}.norms.{k}"
        if f"{norm}.weight" in w:
            x = (x - w[f"{norm}.running_mean"]) / np.sqrt(w[f"{norm}.running_var"] + 1e-5)
            x = x * w[f"{norm}.weight"] + w[f"{norm}.bias"]
        x, k = np.maximum(x, 0.0), k + 1
    return x


def sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_gdcn_sample_by_sample(structure: str, batch_norm: bool) -> None:
    model, w = shaken_model("GDCN", structure=structure, cross_layers=2, batch_norm=batch_norm)
    wanted = []
    for row in IDS.numpy():
        x0 = slow_vectors(w["embedding.weight"], row)
        x = x0
        for k in range(2):
            gate = sigmoid(w[f"cross.gates.{k}.weight"] @ x)
            x = x0 * (w[f"cross.maps.{k}.weight"] @ x + w[f"cross.biases.{k}"]) * gate + x
        state = np.concatenate([x, slow_mlp(x0, w, "mlp")]) if structure == "parallel" else slow_mlp(x, w, "mlp")
        wanted.append(w["head.weight"][0] @ state + w["head.bias"][0])
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    hidden = 13 * 8 + 9 * 6 + 2 * 14 * batch_norm
    head = 6 + 1 + WIDTH * (structure == "parallel")
    assert model.num_parameters == 18 * 4 + 2 * (2 * WIDTH**2 + WIDTH) + hidden + head


def test_cross_biases_start_between_zero_and_one() -> None:
    network = GatedCrossNetwork(1000, 2)
    reset_linear_maps(network)
    for bias in network.biases:
        assert 0.0 <= bias.min() < 0.05 and 0.95 < bias.max() < 1.0 and abs(bias.mean() - 0.5) < 0.05


@pytest.mark.parametrize("name", ["DCN", "DCNv2", "GDCN"])
def test_streams_and_bias_make_the_logit(name: str) -> None:
    model, _ = shaken_model(name, batch_norm=True)
    e_BFD = model.embedding(IDS)
    streams = model.stream_logits(e_BFD)
    torch.testing.assert_close(streams.sum(dim=0) + model.head.bias, model(IDS), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        model.head.weight[:, WIDTH:] = 0.0  # behind the cross network's part
    torch.testing.assert_close(streams[0] + model.head.bias, model(IDS), rtol=1e-12, atol=1e-12)
    for settings in ({"structure": "stacked"}, {"hidden_units": []}):
        other = build_model(name, MIXED, **SMALL | settings)
        assert isinstance(other, CrossModel)
        with pytest.raises(SettingError, match="'parallel'"):
            other.stream_logits(other.embedding(IDS))


@pytest.mark.parametrize(
    ("gates", "bilinear", "heads", "contexts"),
    [
        (True, True, 2, (("b", "tags"), ("a",))),
        (True, True, 1, ((), ("tags", "a"))),
        (True, False, 1, ((), ())),
        (False, True, 2, ((), ())),
        (False, False, 1, ((), ())),
    ],
)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_final_mlp_sample_by_sample(
    gates: bool, bilinear: bool, heads: int, contexts: tuple[tuple[str, ...], ...], batch_norm: bool
) -> None:
    settings = {"gates": gates, "bilinear": bilinear, "heads": heads, "contexts": contexts, "batch_norm": batch_norm}
    model, w = shaken_model("FinalMLP", second_units=[4], gate_units=[5], **settings)
    wanted = []
    for row in IDS.numpy():
        outputs = []
        for s in range(2):
            x = slow_vectors(w["embedding.weight"], row)
            if gates and contexts[s]:
                context = slow_vectors(w[f"gates.{s}.embedding.weight"], row, contexts[s])
            elif gates:
                context = w[f"gates.{s}.context"][0]
            if gates:
                hidden = slow_mlp(context, w, f"gates.{s}.mlp")
                x = x * 2 * sigmoid(w[f"gates.{s}.head.weight"] @ hidden + w[f"gates.{s}.head.bias"])
            outputs.append(slow_mlp(x, w, f"mlps.{s}"))
        logit = sum(w[f"heads.{s}.weight"][0] @ outputs[s] + w[f"heads.{s}.bias"][0] for s in range(2))
        if bilinear:
            form, m, n = w["bilinear.weight"][:, 0], 6 // heads, 4 // heads
            for h in range(heads):
                for i in range(m):
                    for j in range(n):
                        product = outputs[0][h * m + i] * outputs[1][h * n + j]
                        logit += form[(h * m + i) * n + j] * product
        wanted.append(logit)
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    total = 18 * 4 + 13 * 8 + 9 * 6 + 13 * 4 + 2 * (8 + 6 + 4) * batch_norm + 6 + 1 + 4 + 1 + 6 * 4 // heads * bilinear
    for names in contexts if gates else ():
        table = sum(dict(zip(NAMES, MIXED.vocab_sizes, strict=True))[name] for name in names)
        total += 4 * max(1, table) + (4 * max(1, len(names)) + 1) * 5 + (5 + 1) * WIDTH
    assert model.num_parameters == total


def test_dual_mlp_is_final_mlp_without_gates_and_form() -> None:
    plain = {"second_units": [4], "second_dropout": 0.4}
    model = build_model("DualMLP", MIXED, seed=3, **SMALL, **plain)
    other = build_model("FinalMLP", MIXED, seed=3, **SMALL, **plain, gates=False, bilinear=False)
    assert isinstance(model, FinalMLP)
    assert torch.equal(model.eval()(IDS), other.eval()(IDS)) and model.num_parameters == other.num_parameters
    rates = [part.rate for part in model.mlps.modules() if isinstance(part, Dropout)]
    assert rates == [0.1, 0.4]


def test_context_tables_start_and_are_regularised_like_an_embedding() -> None:
    schema = Schema((Field("a"), Field("b")), (3000, 2000))
    model = build_model("FinalMLP", schema, seed=5, **SMALL, second_units=[4], contexts=(("b", "a"), ()))
    tables = {key: value for key, value in model.named_parameters() if "embedding" in key}
    assert list(tables) == ["embedding.weight", "gates.0.embedding.weight"]
    assert [id(p) for p in model.embedding_parameters()] == [id(p) for p in tables.values()]
    own = tables["gates.0.embedding.weight"]
    assert own.shape == (5000, 4) and not own[0].any() and not own[2000].any()
    assert abs(own[1:2000].std().item() / 1e-4 - 1) < 0.05
    assert torch.equal(model.embedding.weight, build_model("DNN", schema, seed=5, **SMALL).embedding.weight)


def test_bilinear_weights_start_as_xavier_draws_one_column() -> None:
    model = build_model("FinalMLP", MIXED, seed=1, hidden_units=[200], second_units=[100], heads=2)
    assert isinstance(model, FinalMLP) and model.bilinear is not None
    weight = model.bilinear.weight
    assert weight.shape == (10000, 1)
    assert abs(weight.std().item() / np.sqrt(2 / 10001) - 1) < 0.05


def test_a_gate_without_contexts_learns_its_last_bias_alone() -> None:
    model = build_model("FinalMLP", MIXED, seed=1, **SMALL, second_units=[4], gate_units=[5])
    model.training_loss(IDS, torch.tensor([0.0, 1.0, 1.0])).backward()
    gradients = {key: value.grad for key, value in model.named_parameters() if key.startswith("gates.")}
    moved = {key for key, value in gradients.items() if value is not None and value.any()}
    assert moved == {"gates.0.head.bias", "gates.1.head.bias"}


# Logged with library version 2, which has one row more for each field. The gates read Frappe's user and item.
FRAPPE_FIELDS = [956, 4084, 9, 9, 4, 5, 4, 11, 82, 235]
FRAPPE_GATED = {"second_units": [100], "gate_units": [400], "heads": 5, "contexts": [["f0"], ["f1"]]}
CRITEO_UNGATED = {"second_units": [500], "gates": False, "heads": 50, "batch_norm": False, "embedding_dim": 16}
FINAL_TOTALS: list[tuple[list[int], dict[str, Any], int]] = [
    (FRAPPE_FIELDS, {"hidden_units": [400]} | FRAPPE_GATED, 253392),
    (split_rows(3, 90242), {"hidden_units": [400], "heads": 10}, 1040902),
    (split_rows(22, 1298621), {"hidden_units": [400] * 3, "heads": 10}, 13979472),
    (split_rows(39, 910747), {"hidden_units": [1000] * 5} | CRITEO_UNGATED, 19524954),
]


@pytest.mark.parametrize(("sizes", "settings", "total"), FINAL_TOTALS)
def test_final_mlp_totals_equal_the_logs(sizes: list[int], settings: dict[str, Any], total: int) -> None:
    values = {"embedding_dim": 10, "second_units": [800], "gate_units": [800]} | WITH_NORM | settings
    assert total_of("FinalMLP", sizes, values) == total
