"""Dropout's random numbers, the embedding's pooling, initial values, losses' laws."""

from __future__ import annotations

import math

import pytest
import torch

from ctrlib.data import Field, Schema
from ctrlib.errors import SettingError
from ctrlib.layers import Dropout, FieldEmbedding, activation, add_product, compiled, embedding, residual_product
from ctrlib.losses import consistency, mean_probability_bce, self_ensemble_loss
from ctrlib.models import MODELS, build_model


def masks(rate: float, draws: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Return (draws, *shape) of zeros (dropped) and ones (kept)."""
    layer = Dropout(rate)
    layer.generator = torch.Generator().manual_seed(11)
    return torch.stack([(layer(torch.ones(shape)) != 0).double() for _ in range(draws)])


def test_dropout_rate_at_every_position() -> None:
    draws, rate = 4000, 0.1
    kept = masks(rate, draws, (4, 17)).mean(dim=0)
    spread = math.sqrt(rate * (1 - rate) / draws)
    assert (kept - (1 - rate)).abs().max() < 5 * spread  # 68 positions, each within 5 standard errors
    assert abs(kept.mean() - (1 - rate)) < 4 * spread / math.sqrt(68)


def test_dropout_positions_are_independent() -> None:
    draws = 4000
    centred = masks(0.3, draws, (40,)) - 0.7
    correlation = (centred.t() @ centred) / draws / 0.21
    off_diagonal = correlation - torch.diag(correlation.diag())
    assert off_diagonal.abs().max() < 5.5 / math.sqrt(draws)  # 780 pairs, and the four of one word among them
    lagged = (centred[1:] * centred[:-1]).mean(dim=0) / 0.21
    assert lagged.abs().max() < 5 / math.sqrt(draws)


def test_dropout_keeps_the_mean_and_scales_the_gradient() -> None:
    layer = Dropout(0.1)
    x = torch.ones(200, 100, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    scale = 65536 / (65536 - 6554)
    assert set(out.unique().tolist()) == {0.0, scale}
    assert abs(out.mean().item() - 1.0) < 0.01
    assert x.grad is not None and torch.equal(x.grad, out)


def test_dropout_is_inert_outside_training_and_at_rate_zero() -> None:
    x = torch.randn(3, 4)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    with pytest.raises(SettingError, match="outside"):
        Dropout(1.0)


@pytest.mark.parametrize("pooling", ["mean", "sum"])
def test_multi_valued_field_pools_what_is_there(pooling: str) -> None:
    schema = Schema((Field("a"), Field("tags", "sequence", max_len=3)), (4, 6))
    table = FieldEmbedding(schema, 2, 1.0, pooling).double()
    table.reset(torch.Generator().manual_seed(0))
    pad = schema.offsets[1]
    tags = [[pad + 1, pad + 2, pad], [pad, pad, pad], [pad + 5, pad, pad + 5], [pad + 1, pad + 3, pad + 4]]
    out = table(torch.tensor([[k, *row] for k, row in enumerate(tags)])).detach()
    assert out.shape == (4, 2, 2)
    for row, found in zip(tags, out[:, 1], strict=True):
        there = [i for i in row if i != pad]
        total = sum((table.weight.detach()[i] for i in there), torch.zeros(2, dtype=torch.float64))
        wanted = total if pooling == "sum" else total / max(1, len(there))
        torch.testing.assert_close(found, wanted, rtol=1e-14, atol=0)


@pytest.mark.parametrize("width", [1, 3, 10, 16])
@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
@pytest.mark.parametrize("real", [torch.float32, torch.float64])
def test_the_compiled_gradient_of_a_table_has_the_framework_s_bits(
    width: int, kind: torch.dtype, real: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba", reason="numba is not installed: the compiled loops are not used")
    stream = torch.Generator().manual_seed(width)
    table = FieldEmbedding(Schema((Field("a"), Field("b")), (40, 7)), width, 1.0).to(real)
    table.reset(stream)
    ids = torch.randint(47, (500, 6), generator=stream).to(kind)[:, ::3]  # many a row more than once; not contiguous
    upstream = torch.randn(width, 2, 500, generator=stream, dtype=real).permute(2, 1, 0)
    found = []
    for loops in (compiled.loops, lambda name: None):
        monkeypatch.setattr(embedding, "loops", loops)
        table.weight.grad = None
        rows = table.rows(ids)
        rows.backward(upstream)
        found.append((rows.detach(), table.weight.grad))
    assert isinstance(found[0][1], torch.Tensor) and found[0][1].abs().sum() > 0
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_initial_values() -> None:
    schema = Schema((Field("a"), Field("b")), (3000, 2000))
    model = build_model("T9", schema, seed=5)
    table = model.embedding.weight
    assert torch.equal(table[0], torch.zeros(16)) and torch.equal(table[3000], torch.zeros(16))
    assert abs(table[1:3000].std().item() / 1e-4 - 1) < 0.02
    weight = model.layers[0].W.weight  # type: ignore[union-attr, index]
    assert abs(weight.std().item() / math.sqrt(2 / (32 + 32)) - 1) < 0.1
    assert torch.count_nonzero(model.head.bias) == 0  # type: ignore[arg-type, union-attr]


def tables(name: str, **settings: object) -> dict[str, FieldEmbedding]:
    """The tables of a fresh model, by their paths."""
    model = build_model(name, Schema((Field("a"), Field("b")), (30, 20)), seed=3, **settings)
    return {path: part for path, part in model.named_modules() if isinstance(part, FieldEmbedding)}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_embedding_std_scales_every_table_but_the_first_order(name: str) -> None:
    usual, wide = tables(name), tables(name, embedding_std=1e-2)
    scaled = 0
    for path, table in usual.items():
        if not path.startswith("teacher"):  # a teacher has settings of its own
            times = 1 if path.endswith("first_order.embedding") else 100
            torch.testing.assert_close(wide[path].weight, times * table.weight)
            scaled += times == 100
    assert scaled or name == "LR", "its table's standard deviation does not change"


@pytest.mark.parametrize("name", sorted(MODELS))
def test_pooling_reaches_every_table_but_a_teachers(name: str) -> None:
    for path, table in tables(name, pooling="sum").items():
        assert table.pooling == ("mean" if path.startswith("teacher") else "sum"), path


def test_an_unknown_pooling_names_the_nearest() -> None:
    schema = Schema((Field("a"),), (30,))
    for make in (lambda: build_model("T9", schema, pooling="sums"), lambda: FieldEmbedding(schema, 2, pooling="sums")):
        with pytest.raises(SettingError, match=r"Unknown pooling 'sums'\. Did you mean 'sum'"):
            make()


def test_embedding_std_is_above_zero() -> None:
    schema = Schema((Field("a"),), (30,))
    for std in (0.0, -1.0, math.nan):
        with pytest.raises(SettingError, match="embedding_std"):
            build_model("T9", schema, embedding_std=std)


def test_two_models_of_one_seed_share_the_embedding() -> None:
    schema = Schema((Field("a"), Field("b")), (30, 20))
    first, second = build_model("T9", schema, seed=7), build_model("T5", schema, seed=7)
    assert torch.equal(first.embedding.weight, second.embedding.weight)
    assert not torch.equal(first.embedding.weight, build_model("T9", schema, seed=8).embedding.weight)


def test_unknown_names_say_the_nearest() -> None:
    schema = Schema((Field("a"), Field("b")), (30, 20))
    with pytest.raises(SettingError, match="Did you mean 'T9'"):
        build_model("t9", schema)
    with pytest.raises(SettingError, match="Did you mean 'post_activation'"):
        build_model("T9", schema, post_activaton="relu")
    with pytest.raises(SettingError, match=r"Unknown activation 'relux'\. Did you mean 'relu'"):
        activation("relux")
    with pytest.raises(SettingError, match="Unknown loss"):
        build_model("T9", schema, loss="self-ensembl", passes=2)


def test_self_ensemble_gradient_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    labels = (torch.rand(9) > 0.5).double()
    p = torch.sigmoid(logits.detach())
    mean = p.mean(dim=0)
    (got,) = torch.autograd.grad(consistency(logits), logits)
    torch.testing.assert_close(got, (p - mean) / 9)
    (got,) = torch.autograd.grad(mean_probability_bce(logits, labels), logits)
    torch.testing.assert_close(got, p * (1 - p) / (2 * mean * (1 - mean)) * (mean - labels) / 9)


def test_self_ensemble_is_inert_without_dropout() -> None:
    torch.manual_seed(0)
    logits = torch.randn(9, dtype=torch.float64).repeat(3, 1).requires_grad_()
    (got,) = torch.autograd.grad(consistency(logits), logits)
    assert got.abs().max() < 1e-16


def test_self_ensemble_does_not_overflow() -> None:
    logits = torch.tensor([[800.0, -800.0], [790.0, -810.0]], requires_grad=True)
    loss = self_ensemble_loss(logits, torch.tensor([1.0, 1.0]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(5, 4), (4,)])
def test_add_product_equals_addcmul_to_the_bit(shape: tuple[int, ...]) -> None:
    """Values and gradients of c + a * b, for equal shapes and with a broadcast c."""
    stream = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 5, 4, generator=stream)
    c = torch.randn(shape, generator=stream)
    found = []
    for function in (add_product, torch.addcmul):
        leaves = [x.clone().requires_grad_() for x in (c, a, b)]
        out = function(*leaves)
        found.append([out.detach(), *torch.autograd.grad(out.square().sum(), leaves)])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


@pytest.mark.parametrize("frozen", ["", "x", "weight", "bias"])
def test_a_residual_product_has_the_values_and_gradients_of_its_equation(frozen: str) -> None:
    """x + x * (W x + b) in float64, with any of the parts frozen."""
    stream = torch.Generator().manual_seed(3)
    linear = torch.nn.Linear(6, 6).double()
    x = torch.randn(9, 6, generator=stream, dtype=torch.float64, requires_grad=True)
    parts = {"x": x} | dict(linear.named_parameters())
    for name, part in parts.items():
        part.requires_grad_(name != frozen)
    wanted = [part for name, part in parts.items() if name != frozen]
    found = []
    for out in (residual_product(x, linear), x + x * linear(x)):
        found.append([out.detach(), *torch.autograd.grad(out.square().sum(), wanted)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_residual_product_takes_other_maps_too() -> None:
    x = torch.randn(5, 4)
    for linear in (torch.tanh, torch.nn.Linear(4, 1), torch.nn.Linear(4, 4, bias=False)):
        torch.testing.assert_close(residual_product(x, linear), x + x * linear(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert residual_product(x, linear).dtype == torch.float32
