"""LR, factorization machines, PNN, Wide & Deep and DLRM: in slow float64, sample by sample and pair by pair."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_baselines import IDS, MIXED, NAMES, SMALL, shaken, slow_mlp, slow_vectors, split_rows, total_of

from ctrlib.data import CTRDataset, Field, Schema
from ctrlib.errors import SettingError
from ctrlib.layers import Dropout, InnerProducts, WeightedPairs, pair_products
from ctrlib.losses import bce_loss, self_ensemble_loss
from ctrlib.models import build_model
from ctrlib.models.fm import AFM, FmFM, FwFM, PairAttention
from ctrlib.train import Protocol, fit

Array = NDArray[np.float64]
B, F, D = 3, 4, 5
ROWS, WIDTH, DIM = sum(MIXED.vocab_sizes), 3 * 4, 4
SMALL_DIM = {"embedding_dim": DIM}
TWO = Schema((Field("a"), Field("b")), (5, 6))
# Every system with each of its settings.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("LR", {}),
    ("FM", {}),
    ("FwFM", {"linear": "LW"}),
    ("FwFM", {"linear": "FeLV"}),
    ("FwFM", {"linear": "FiLV"}),
    ("FmFM", {"form": "scalar"}),
    ("FmFM", {"form": "vectorized"}),
    ("FmFM", {"form": "matrixed"}),
    ("AFM", {"attention_dim": 3}),
    ("Wide&Deep", {"hidden_units": [8, 6]}),
    ("PNN", {"product": "inner", "hidden_units": [8, 6]}),
    ("PNN", {"product": "outer", "hidden_units": [8, 6]}),
    ("PNN", {"product": "both", "hidden_units": [8, 6]}),
    ("DLRM", {"interaction": "dot", "hidden_units": [8, 6]}),
    ("DLRM", {"interaction": "cat", "hidden_units": [8, 6]}),
]


def named(cases: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [" ".join([name, *map(str, settings.values())]) for name, settings in cases]


def field_vectors(fields: int = F) -> torch.Tensor:
    return torch.randn(B, fields, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


# ---- layers ----


@pytest.mark.parametrize("fields", [2, F])
def test_pair_products_and_inner_products_pair_by_pair(fields: int) -> None:
    e = field_vectors(fields)
    products, inner = pair_products(e).numpy(), InnerProducts(fields)(e).numpy()
    pairs = list(combinations(range(fields), 2))
    assert products.shape == (B, len(pairs), D) and inner.shape == (B, len(pairs))
    for b, x in enumerate(e.numpy()):
        for p, (i, j) in enumerate(pairs):
            each = [x[i, k] * x[j, k] for k in range(D)]
            np.testing.assert_allclose(products[b, p], each, rtol=1e-12)
            np.testing.assert_allclose(inner[b, p], sum(each), rtol=1e-12)


def test_pair_products_gradient() -> None:
    assert torch.autograd.gradcheck(pair_products, field_vectors().requires_grad_())  # type: ignore[no-untyped-call]


def slow_pairs(x: Array, weights: Array, y: Array) -> float:
    """The bilinear forms of row i of x and row j of y for all pairs i < j, entry by entry."""
    total = 0.0
    for (i, j), weight in zip(combinations(range(len(x)), 2), weights, strict=True):
        for k in range(x.shape[1]):
            for m in range(x.shape[1]):
                if weight.ndim == 2:
                    total += x[i, k] * weight[k, m] * y[j, m]
                elif k == m:
                    total += x[i, k] * (weight[k] if weight.ndim else weight) * y[j, k]
    return total


@pytest.mark.parametrize(("form", "shape"), [("scalar", (6,)), ("vectorized", (6, D)), ("matrixed", (6, D, D))])
def test_weighted_pairs_entry_by_entry(form: str, shape: tuple[int, ...]) -> None:
    layer = WeightedPairs(F, D, form).double()
    weight = shaken(layer)["weight"]
    assert weight.shape == shape
    e = field_vectors()
    wanted = [slow_pairs(x, weight, x) for x in e.numpy()]
    np.testing.assert_allclose(layer(e).detach().numpy(), wanted, rtol=1e-11)
    g = field_vectors().flip(0)
    wanted = [slow_pairs(x, weight, y) for x, y in zip(e.numpy(), g.numpy(), strict=True)]
    np.testing.assert_allclose(layer(e, g).detach().numpy(), wanted, rtol=1e-11)


@pytest.mark.parametrize("form", ["scalar", "vectorized", "matrixed"])
def test_weighted_pairs_start_xavier_normal(form: str) -> None:
    fields, dim = 40, 8
    pairs = fields * (fields - 1) // 2
    fans = {"scalar": 1 + pairs, "vectorized": dim + pairs, "matrixed": dim * dim + pairs * dim}[form]
    weight = WeightedPairs(fields, dim, form).weight
    assert abs(weight.std().item() / math.sqrt(2 / fans) - 1) < 0.1


def slow_attention(p: Array, w: dict[str, Array]) -> Array:
    """The pooled vector of one sample's products (P, D)."""
    scores = []
    for one in p:
        hidden = np.maximum(w["attention.hidden.weight"] @ one + w["attention.hidden.bias"], 0.0)
        scores.append(np.exp(w["attention.score.weight"][0] @ hidden))
    return np.asarray(sum(score / sum(scores) * one for score, one in zip(scores, p, strict=True)))


def test_attention_drops_whole_pairs_then_entries() -> None:
    p = torch.rand(200, 1, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    before = PairAttention(D, 3, dropout=0.5, pooled_dropout=0.0).double()(p)  # one pair: its weight is 1
    pairs = (before / p[:, 0]).detach()
    assert ((pairs == 0).all(dim=1) | (torch.abs(pairs - 2) < 1e-9).all(dim=1)).all()
    assert 0 < (pairs[:, 0] == 0).sum() < 200
    after = (PairAttention(D, 3, dropout=0.0, pooled_dropout=0.5).double()(p) / p[:, 0]).detach()
    assert ((after == 0) | (torch.abs(after - 2) < 1e-9)).all()
    assert ((after == 0).any(dim=1) & (after != 0).any(dim=1)).any(), "entries of one vector part"


def test_afm_rates() -> None:
    for pooled, wanted in ((None, [0.3, 0.3]), (0.4, [0.3, 0.4]), (0.0, [0.3, 0.0])):
        model = build_model("AFM", TWO, dropout=0.3, pooled_dropout=pooled)
        assert [part.rate for part in model.modules() if isinstance(part, Dropout)] == wanted


# ---- whole models ----


def slow_first_order(row: Array, w: dict[str, Array], name: str = "first_order") -> float:
    """The weights of a sample's ids; of the tags, whose ids are columns 1 to 3, those that are not padding."""
    table = w[f"{name}.embedding.weight"][:, 0]
    real = [i for column, i in enumerate(row) if not (1 <= column <= 3 and i == MIXED.offsets[1])]
    return float(sum(table[i] for i in real) + w.get(f"{name}.bias", np.zeros(1))[0])


def slow_logit(name: str, settings: dict[str, Any], row: Array, w: dict[str, Array]) -> float:
    if name == "LR":
        return slow_first_order(row, w)
    x = slow_vectors(w["embedding.weight"], row)
    e = x.reshape(3, DIM)
    pairs = list(combinations(e, 2))
    inner = [sum(a * b for a, b in zip(u, v, strict=True)) for u, v in pairs]
    if name == "FM":
        return slow_first_order(row, w) + sum(inner)
    if name == "FwFM":
        linear = {
            "LW": lambda: slow_first_order(row, w),
            "FeLV": lambda: x @ slow_vectors(w["feature_embedding.weight"], row),
            "FiLV": lambda: x @ w["field_vectors.weight"][0],
        }[settings["linear"]]()
        return float(linear + slow_pairs(e, w["pairs.weight"], e) + w["bias"][0])
    if name == "FmFM":
        return slow_first_order(row, w) + slow_pairs(e, w["pairs.weight"], e)
    if name == "AFM":
        pooled = slow_attention(np.array([u * v for u, v in pairs]), w)
        return slow_first_order(row, w) + float(w["head.weight"][0] @ pooled)
    if name == "Wide&Deep":
        return slow_first_order(row, w) + slow_head(x, w)
    total = sum(e)
    outer = [total[k] * total[m] for k in range(DIM) for m in range(DIM)]
    joined = {
        "inner": [*x, *inner],
        "outer": [*x, *outer],
        "both": [*x, *inner, *outer],
        "dot": inner,
        "cat": x,
    }[settings.get("product") or settings["interaction"]]
    return slow_head(np.array(joined), w)


def slow_head(x: Array, w: dict[str, Array]) -> float:
    return float(w["mlp.head.weight"][0] @ slow_mlp(x, w, "mlp") + w["mlp.head.bias"][0])


@pytest.mark.parametrize(("name", "settings"), CASES, ids=named(CASES))
def test_sample_by_sample(name: str, settings: dict[str, Any]) -> None:
    model = build_model(name, MIXED, embedding_dim=DIM, **settings).double().eval()
    w = shaken(model)
    assert NAMES == ("a", "tags", "b") and model.schema.num_fields == 3
    wanted = [slow_logit(name, settings, row, w) for row in IDS.numpy()]
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)


PAIRS = 3
HIDDEN = 8 + 9 * 6 + 6 + 1  # an MLP of widths 8 and 6 with a head; 8 more for each unit of its input
COUNTS = [
    ROWS + 1,
    ROWS * DIM + ROWS + 1,
    ROWS * DIM + PAIRS + 1 + ROWS,
    ROWS * DIM + PAIRS + 1 + ROWS * DIM,
    ROWS * DIM + PAIRS + 1 + WIDTH,
    ROWS * DIM + ROWS + 1 + PAIRS,
    ROWS * DIM + ROWS + 1 + PAIRS * DIM,
    ROWS * DIM + ROWS + 1 + PAIRS * DIM**2,
    ROWS * DIM + ROWS + 1 + DIM * 3 + 2 * 3 + DIM,
    ROWS * DIM + ROWS + 8 * WIDTH + HIDDEN,
    ROWS * DIM + 8 * (WIDTH + PAIRS) + HIDDEN,
    ROWS * DIM + 8 * (WIDTH + DIM**2) + HIDDEN,
    ROWS * DIM + 8 * (WIDTH + PAIRS + DIM**2) + HIDDEN,
    ROWS * DIM + 8 * PAIRS + HIDDEN,
    ROWS * DIM + 8 * WIDTH + HIDDEN,
]


@pytest.mark.parametrize(("case", "count"), list(zip(CASES, COUNTS, strict=True)), ids=named(CASES))
def test_numbers_of_weights(case: tuple[str, dict[str, Any]], count: int) -> None:
    name, settings = case
    assert build_model(name, MIXED, embedding_dim=DIM, **settings).num_parameters == count


# Totals that the public benchmark BARS logged: F fields, V rows, D.
FRAPPE, MOVIELENS, AVAZU, CRITEO = (10, 5389, 10), (3, 90239, 10), (22, 1298599, 10), (39, 2086316, 10)
CRITEO_X4, KKBOX = (39, 910708, 16), (13, 92247, 128)
MLP_3, WITH_NORM = {"hidden_units": [400] * 3}, {"batch_norm": True}
TOTALS: list[tuple[str, tuple[int, int, int], dict[str, Any], int]] = [
    ("LR", FRAPPE, {}, 5390),
    ("LR", CRITEO, {}, 2086317),
    ("FM", FRAPPE, {}, 59280),
    ("FM", CRITEO_X4, {}, 15482037),
    ("FM", KKBOX, {}, 11899864),
    ("FwFM", FRAPPE, {"linear": "FeLV"}, 107826),
    ("FwFM", AVAZU, {"linear": "FeLV"}, 25972212),
    ("FwFM", CRITEO_X4, {"linear": "LW"}, 15482778),
    ("FwFM", KKBOX, {"linear": "FiLV"}, 11809359),
    ("FmFM", FRAPPE, {"form": "vectorized"}, 59730),
    ("FmFM", AVAZU, {"form": "matrixed"}, 14307690),
    ("FmFM", CRITEO, {"form": "matrixed"}, 23023577),
    ("AFM", FRAPPE, {"attention_dim": 128}, 60826),
    ("AFM", KKBOX, {"attention_dim": 64}, 11908312),
    ("PNN", FRAPPE, MLP_3, 433491),
    ("PNN", CRITEO, MLP_3 | WITH_NORM, 21639561),
    ("PNN", KKBOX, {"hidden_units": [2000] * 2}, 19297617),
    ("Wide&Deep", FRAPPE, MLP_3 | WITH_NORM, 423280),
    ("Wide&Deep", KKBOX, {"hidden_units": [1000] * 3}, 15567864),
    ("DLRM", FRAPPE, {"interaction": "cat"} | MLP_3 | WITH_NORM, 417891),
    ("DLRM", AVAZU, MLP_3 | WITH_NORM, 13402391),
]


@pytest.mark.parametrize(("name", "size", "settings", "total"), TOTALS)
def test_totals_equal_the_logs(name: str, size: tuple[int, int, int], settings: dict[str, Any], total: int) -> None:
    fields, rows, dim = size
    assert total_of(name, split_rows(fields, rows), {"embedding_dim": dim} | settings) == total


@pytest.mark.parametrize(("name", "settings"), CASES, ids=named(CASES))
def test_three_epochs_move_every_weight(name: str, settings: dict[str, Any], tiny: CTRDataset) -> None:
    model = build_model(name, tiny.schema, seed=1, embedding_dim=DIM, **settings)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    protocol = Protocol(batch_size=20, max_epochs=3, embedding_dim=DIM, learning_rate=0.01, embedding_regularizer=1e-4)
    fit(model, tiny, protocol, seed=1)
    assert not [key for key, value in model.named_parameters() if torch.equal(before[key], value)]


@pytest.mark.parametrize(("name", "settings"), CASES, ids=named(CASES))
def test_gradient_of_the_logits_reaches_every_weight(name: str, settings: dict[str, Any]) -> None:
    model = build_model(name, MIXED, embedding_dim=DIM, dropout=0.0, **settings).double()
    shaken(model)
    model.training_loss(IDS, torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)).backward()
    assert not [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]


@pytest.mark.parametrize(("name", "settings"), CASES[:8], ids=named(CASES[:8]))
def test_without_dropout_all_passes_are_one(name: str, settings: dict[str, Any], tiny: CTRDataset) -> None:
    ids, labels = tiny.train.ids[:40], tiny.train.labels[:40]
    for loss, function in (("bce", bce_loss), ("self-ensemble", self_ensemble_loss)):
        model = build_model(name, tiny.schema, seed=3, dropout=0.5, loss=loss, passes=3, **settings)
        torch.testing.assert_close(model.training_loss(ids, labels), function(model(ids).expand(3, -1), labels))


# ---- the systems beside each other ----


def loaded(name: str, weights: dict[str, torch.Tensor], **settings: Any) -> torch.Tensor:
    model = build_model(name, MIXED, **SMALL_DIM, **settings).double().eval()
    model.load_state_dict(weights)
    logits: torch.Tensor = model(IDS)
    return logits


def test_scalar_fmfm_is_fwfm_with_weights_of_features() -> None:
    model = build_model("FmFM", MIXED, form="scalar", **SMALL_DIM).double().eval()
    shaken(model)
    weights = model.state_dict()
    weights["bias"] = weights.pop("first_order.bias")
    torch.testing.assert_close(loaded("FwFM", weights, linear="LW"), model(IDS), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("form", "one"), [("vectorized", torch.ones(3, DIM)), ("matrixed", torch.eye(DIM))])
def test_fmfm_with_the_identity_is_fm(form: str, one: torch.Tensor) -> None:
    model = build_model("FM", MIXED, **SMALL_DIM).double().eval()
    shaken(model)
    weights = model.state_dict() | {"pairs.weight": one.expand(3, DIM, DIM) if form == "matrixed" else one}
    torch.testing.assert_close(loaded("FmFM", weights, form=form), model(IDS), rtol=1e-12, atol=1e-12)


def test_matrices_are_not_taken_for_their_transposes() -> None:
    model = build_model("FmFM", MIXED, **SMALL_DIM).double().eval()
    shaken(model)
    weights = model.state_dict()
    turned = weights | {"pairs.weight": weights["pairs.weight"].transpose(1, 2).contiguous()}
    assert (loaded("FmFM", turned) - model(IDS)).abs().min() > 1e-3


def test_afm_without_scores_is_the_mean_of_the_products() -> None:
    model = build_model("AFM", MIXED, **SMALL_DIM).double().eval()
    assert isinstance(model, AFM)
    shaken(model)
    model.attention.score.weight.data.zero_()
    model.head.weight.data.fill_(3.0)  # times the pairs
    weights = {key: value for key, value in model.state_dict().items() if "embedding" in key or "first_order" in key}
    torch.testing.assert_close(loaded("FM", weights), model(IDS), rtol=1e-12, atol=1e-12)


def test_dlrm_of_the_embedding_is_dnn() -> None:
    dnn = build_model("DNN", MIXED, seed=4, **SMALL).eval()
    assert torch.equal(build_model("DLRM", MIXED, seed=4, interaction="cat", **SMALL).eval()(IDS), dnn(IDS))


def test_wide_part_adds_to_the_deep_one() -> None:
    model = build_model("Wide&Deep", MIXED, seed=4, **SMALL).eval()
    assert model.first_order is not None and model.first_order.bias is None
    deep = build_model("DNN", MIXED, seed=4, **SMALL).eval()
    torch.testing.assert_close(model(IDS), deep(IDS) + model.first_order(IDS))


# ---- tables ----

LARGE = Schema((Field("a"), Field("b")), (3000, 2000))


def test_lr_has_one_table_of_width_one() -> None:
    model = build_model("LR", LARGE, seed=5, embedding_dim=7)
    assert model.settings.embedding_dim == 1 and not hasattr(model, "embedding")
    tables = {key: value for key, value in model.named_parameters() if "embedding" in key}
    assert list(tables) == ["first_order.embedding.weight"] and len(list(model.parameters())) == 2
    assert [id(p) for p in model.embedding_parameters()] == [id(p) for p in tables.values()]
    table = tables["first_order.embedding.weight"]
    assert table.shape == (5000, 1) and table[0] == 0.0 and table[3000] == 0.0
    assert abs(table[1:3000].std().item() / 1e-4 - 1) < 0.05
    other = build_model("FM", LARGE, seed=5, embedding_dim=7).first_order
    assert other is not None and torch.equal(table, other.embedding.weight)


@pytest.mark.parametrize("linear", ["LW", "FeLV"])
def test_linear_tables_start_and_are_regularised_like_an_embedding(linear: str) -> None:
    model = build_model("FwFM", LARGE, seed=5, embedding_dim=DIM, linear=linear)
    assert isinstance(model, FwFM)
    tables = {key: value for key, value in model.named_parameters() if "embedding" in key}
    second = "first_order.embedding.weight" if linear == "LW" else "feature_embedding.weight"
    assert sorted(tables) == sorted(["embedding.weight", second])
    assert {id(p) for p in model.embedding_parameters()} == {id(p) for p in tables.values()}
    table = tables[second]
    assert table.shape == (5000, 1 if linear == "LW" else DIM) and not table[0].any() and not table[3000].any()
    assert abs(table[1:3000].std().item() / 1e-4 - 1) < 0.05
    assert not torch.equal(table[:, 0], model.embedding.weight[:, 0]), "a table of its own"
    again = build_model("FwFM", LARGE, seed=5, embedding_dim=DIM, linear=linear)
    assert torch.equal(again.state_dict()[second], table)


def test_maps_start_xavier_normal_and_biases_zero() -> None:
    model = build_model("FwFM", LARGE, embedding_dim=500)
    assert isinstance(model, FwFM) and model.field_vectors is not None
    assert abs(model.field_vectors.weight.std().item() / math.sqrt(2 / 1001) - 1) < 0.1 and model.bias == 0
    afm = build_model("AFM", LARGE, embedding_dim=50, attention_dim=60)
    assert isinstance(afm, AFM)
    assert abs(afm.attention.hidden.weight.std().item() / math.sqrt(2 / 110) - 1) < 0.1
    assert not afm.attention.hidden.bias.any()
    fmfm = build_model("FmFM", LARGE, embedding_dim=50)
    assert isinstance(fmfm, FmFM) and fmfm.pairs.weight.shape == (1, 50, 50)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("FwFM", {"linear": "FiLW"}, "Unknown linear term 'FiLW'. Did you mean 'FiLV'"),
        ("FmFM", {"form": "matrix"}, "Unknown form 'matrix'. Did you mean 'matrixed'"),
        ("FmFM", {"forms": "matrixed"}, "Did you mean 'form'"),
        ("AFM", {"attention_dim": 0}, "attention_dim is 0"),
        ("AFM", {"pooled_dropout": 1.0}, "outside"),
        ("PNN", {"product": "iner"}, "Unknown product 'iner'. Did you mean 'inner'"),
        ("PNN", {"hidden_units": 400}, "hidden_units is 400"),
        ("DLRM", {"interaction": "dots"}, "Unknown interaction 'dots'. Did you mean 'dot'"),
        ("Wide&Deep", {"activation": "rellu"}, "Did you mean 'relu'"),
        ("WideDeep", {}, "Did you mean 'Wide&Deep'"),
        ("LR", {"loss": "cosine", "passes": 2}, "compares states"),
        ("FM", {"loss": "cosine", "passes": 2}, "compares states"),
        ("FM", {"hidden_units": [4]}, "Unknown setting of model FM 'hidden_units'"),
        ("FwFM", {"loss": "cosine", "passes": 2}, "compares states"),
        ("FmFM", {"loss": "cosine", "passes": 2}, "compares states"),
    ],
)
def test_wrong_settings_say_what_is_wrong(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_model(name, TWO, **settings)


@pytest.mark.parametrize("name", ["FwFM", "FmFM", "AFM", "PNN", "DLRM"])
def test_one_field_has_no_pairs(name: str) -> None:
    with pytest.raises(SettingError, match="at least 2 fields"):
        build_model(name, Schema((Field("a"),), (5,)))


def test_an_unknown_form_of_the_layer() -> None:
    with pytest.raises(SettingError, match="Did you mean 'scalar'"):
        WeightedPairs(3, 4, "scaler")
