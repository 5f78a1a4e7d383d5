"""CL4CTR: each of its losses against slow float64 code, what they reach, and that prediction is the base model's."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_baselines import IDS, MIXED, SMALL, WIDTH, shaken

from ctrlib.data import CTRDataset, Field, Schema
from ctrlib.errors import SettingError
from ctrlib.layers import Dropout, FeedForward
from ctrlib.layers import feed_forward as module
from ctrlib.layers.dropout import kept, kept_scale
from ctrlib.models import build_model
from ctrlib.models.cl4ctr import CL4CTR, EncoderLayer, Mask, alignment, row_uniformity, uniformity

Array = NDArray[np.float64]
D = 4
PLAIN = {"dropout": 0.0, "encoder_dropout": 0.0, "mask_rate": 0.0, "encoder_units": 7, "encoder_layers": 2}
LABELS = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)


def cl4ctr(**settings: Any) -> tuple[CL4CTR, dict[str, Array]]:
    """A model with random weights, in training mode, and its weights."""
    model = build_model("CL4CTR", MIXED, seed=1, **SMALL | PLAIN | settings).double()
    assert isinstance(model, CL4CTR)
    return model, shaken(model)


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slow_norm(x: Array, w: dict[str, Array], name: str) -> Array:
    centred = x - x.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    return np.asarray(centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"])


def slow_encoder_layer(x: Array, w: dict[str, Array], name: str) -> Array:
    """One sample, (F, D) -> (F, D), field by field."""
    q = np.array([w[f"{name}query.weight"] @ row + w[f"{name}query.bias"] for row in x])
    k = np.array([w[f"{name}key.weight"] @ row for row in x])
    u = np.array([w[f"{name}value.weight"] @ row + w[f"{name}value.bias"] for row in x])
    out = np.zeros_like(x)
    for f in range(len(x)):
        scores = np.array([np.exp(q[f] @ k[g] / math.sqrt(x.shape[1])) for g in range(len(x))])
        mixed = sum(score * u[g] for g, score in enumerate(scores / scores.sum()))
        out[f] = w[f"{name}joined.weight"] @ mixed + w[f"{name}joined.bias"]
    y = slow_norm(x + out, w, f"{name}norms.0")
    for f in range(len(x)):
        hidden = np.maximum(w[f"{name}feed_forward.up.weight"] @ y[f] + w[f"{name}feed_forward.up.bias"], 0.0)
        out[f] = w[f"{name}feed_forward.down.weight"] @ hidden + w[f"{name}feed_forward.down.bias"]
    return slow_norm(y + out, w, f"{name}norms.1")


def slow_contrastive(first: Array, second: Array, w: dict[str, Array], layers: int) -> float:
    """Two copies (B, F, D) of the field vectors; samples and fields one by one."""
    total = 0.0
    for pair in zip(first, second, strict=True):
        projected = []
        for k, x in enumerate(pair):
            for layer in range(layers):
                x = slow_encoder_layer(x, w, f"encoder.{layer}.")
            projected.append(w[f"projections.{k}.weight"] @ x.reshape(-1) + w[f"projections.{k}.bias"])
        total += ((projected[0] - projected[1]) ** 2).sum()
    return float(total / len(first))


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / math.sqrt((a @ a + 1e-8) * (b @ b + 1e-8)))


def slow_alignment(fields: list[Array]) -> float:
    distances = [((a - b) ** 2).sum() for e in fields for a, b in combinations(e, 2)]
    return float(np.mean(distances))


def slow_uniformity(fields: list[Array]) -> float:
    return float(np.mean([cosine(a, b) for e, other in combinations(fields, 2) for a in e for b in other]))


# ---- parts ----


def test_encoder_layer_sample_by_sample() -> None:
    layer = EncoderLayer(D, 7, 0.0).double()
    w, x = shaken(layer), vectors(5, 3, D)
    wanted = [slow_encoder_layer(row, w, "") for row in x.numpy()]
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, rtol=1e-10)
    count = sum(value.size for value in w.values())
    assert count == 4 * D**2 + 3 * D + 2 * D * 7 + 7 + D + 4 * D


def test_encoder_layer_is_that_of_the_framework() -> None:
    layer = EncoderLayer(D, 7, 0.0).double()
    w = {name: torch.from_numpy(value) for name, value in shaken(layer).items()}
    other = torch.nn.TransformerEncoderLayer(D, 1, 7, 0.0, batch_first=True, dtype=torch.float64)
    maps = ("query", "key", "value")
    other.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([w[f"{name}.weight"] for name in maps]),
            # any bias of the key will do
            "self_attn.in_proj_bias": torch.cat([w["query.bias"], vectors(D, seed=5), w["value.bias"]]),
            "self_attn.out_proj.weight": w["joined.weight"],
            "self_attn.out_proj.bias": w["joined.bias"],
            **{
                f"linear{k}.{kind}": w[f"feed_forward.{name}.{kind}"]
                for k, name in ((1, "up"), (2, "down"))
                for kind in ("weight", "bias")
            },
            **{f"norm{k + 1}.{kind}": w[f"norms.{k}.{kind}"] for k in (0, 1) for kind in ("weight", "bias")},
        }
    )
    x = vectors(5, 3, D)
    torch.testing.assert_close(layer(x), other(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_feed_forward_in_blocks_is_two_maps(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)  # 11 rows: two whole blocks and a part
    layer = FeedForward(3, 5, rate).double()
    shaken(layer)
    values = [vectors(11, 3).requires_grad_(), *layer.parameters()]
    layer.dropout.generator = torch.Generator().manual_seed(7)
    words = layer.dropout.words((11, 5), torch.device("cpu"))
    hidden = torch.relu(layer.up(values[0]))
    if words is not None:
        mask = kept(words, layer.dropout.dropped_levels, torch.float64)
        assert 0 < mask.sum() < 55
        hidden = hidden * mask * kept_scale(layer.dropout.dropped_levels)
    wanted = layer.down(hidden)
    layer.dropout.generator = torch.Generator().manual_seed(7)
    out = layer(values[0])
    torch.testing.assert_close(out, wanted, rtol=1e-12, atol=1e-12)
    weights = vectors(11, 3, seed=9)
    gradients, theirs = (torch.autograd.grad((y * weights).sum(), values, retain_graph=True) for y in (out, wanted))
    for gradient, theirs_too in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(gradient, theirs_too, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kind", "equal"), [("random", ()), ("feature", (2,)), ("dimension", (1,))])
def test_masks_drop_what_they_say_and_scale_nothing(kind: str, equal: tuple[int, ...]) -> None:
    mask = Mask(kind, 0.3)
    mask.generator = torch.Generator().manual_seed(3)
    x = vectors(2000, 3, D).requires_grad_()
    out = mask(x)
    open_ = (out != 0).double()
    assert torch.equal(out, x * open_)
    assert abs(open_.mean().item() - 0.7) < 0.02
    for axis in (0, 1, 2):
        same = (open_ == open_.select(axis, 0).unsqueeze(axis)).all().item()
        assert same == (axis in equal), f"axis {axis}"
    out.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, open_)
    assert mask.eval()(x) is x


# ---- losses ----


@pytest.mark.parametrize("counts", [(3, 3, 3), (1, 4, 2)])
def test_alignment_and_uniformity_pair_by_pair(counts: tuple[int, ...]) -> None:
    fields = [vectors(n, D, seed=k) for k, n in enumerate(counts)]
    arrays = [e.numpy() for e in fields]
    np.testing.assert_allclose(alignment(fields).item(), slow_alignment(arrays), rtol=1e-10)
    np.testing.assert_allclose(uniformity(fields).item(), slow_uniformity(arrays), rtol=1e-10)


def test_row_uniformity_compares_the_fields_of_each_sample() -> None:
    e = vectors(5, 3, D)
    wanted = np.mean([cosine(a, b) for row in e.numpy() for a, b in combinations(row, 2)])
    np.testing.assert_allclose(row_uniformity(e).item(), wanted, rtol=1e-10)


def test_no_pair_no_loss_and_no_direction_a_finite_gradient() -> None:
    one = [vectors(1, D)]
    assert alignment(one) == 0 and uniformity(one) == 0 and row_uniformity(one[0][None]) == 0
    e = torch.zeros(2, 3, D, dtype=torch.float64)
    e[:, 0] = 1.0
    e.requires_grad_()
    row_uniformity(e).backward()
    assert e.grad is not None and e.grad.isfinite().all() and e.grad.any()


@pytest.mark.parametrize("kind", ["random", "feature", "dimension"])
def test_contrastive_loss_sample_by_sample(kind: str) -> None:
    model, w = cl4ctr(mask=kind, mask_rate=0.4)
    e = model.embedding(IDS).detach()
    model.mask.generator = torch.Generator().manual_seed(11)
    masks = [model.mask(torch.ones_like(e)) for _ in range(2)]
    assert not torch.equal(*masks)
    model.mask.generator = torch.Generator().manual_seed(11)
    wanted = slow_contrastive((e * masks[0]).numpy(), (e * masks[1]).numpy(), w, 2)
    np.testing.assert_allclose(model.contrastive(e).item(), wanted, rtol=1e-10)


def test_contrastive_loss_does_not_mix_samples() -> None:
    model, _ = cl4ctr()
    e = model.embedding(IDS)
    alone = torch.stack([model.contrastive(e[k : k + 1]) for k in range(3)]).mean()
    torch.testing.assert_close(model.contrastive(e), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("constraints", ["table", "batch"])
@pytest.mark.parametrize("hidden_units", [[8, 6], []])
def test_training_loss_is_the_weighted_sum(constraints: str, hidden_units: list[int]) -> None:
    model, w = cl4ctr(alpha=0.7, beta=0.3, constraints=constraints, hidden_units=hidden_units)
    z = model(IDS).detach().numpy()
    y = LABELS.numpy()
    click = np.mean(np.log1p(np.exp(z)) - y * z)
    e = model.embedding(IDS).detach().numpy()
    if constraints == "batch":
        fields = [e[:, f] for f in range(3)]
        apart = float(np.mean([cosine(a, b) for row in e for a, b in combinations(row, 2)]))
    else:
        table = w["embedding.weight"]
        fields = [table[1:5], table[6:11], table[12:18]]  # without each field's padding
        apart = slow_uniformity(fields)
    wanted = click + 0.7 * slow_contrastive(e, e, w, 2) + 0.3 * (slow_alignment(fields) + apart)
    np.testing.assert_allclose(model.training_loss(IDS, LABELS).item(), wanted, rtol=1e-10)


def gradients(**settings: Any) -> dict[str, torch.Tensor]:
    """Gradients of the training loss; those that are None are left out."""
    model, _ = cl4ctr(**settings)
    model.training_loss(IDS, LABELS).backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def test_each_loss_contributes_a_gradient() -> None:
    base = gradients(alpha=0.0, beta=0.0)
    assert not any(name.startswith(("encoder", "projections")) for name in base)
    assert not [name for name, gradient in base.items() if not gradient.any()]
    contrasted = gradients(beta=0.0)
    model, _ = cl4ctr()
    assert contrasted.keys() == dict(model.named_parameters()).keys()
    assert not [name for name, gradient in contrasted.items() if not gradient.any()]
    assert not torch.allclose(contrasted["embedding.weight"], base["embedding.weight"])
    for name in base.keys() - {"embedding.weight"}:
        torch.testing.assert_close(contrasted[name], base[name], msg="the base model's other weights see one loss")
    table = gradients(alpha=0.0)["embedding.weight"] - base["embedding.weight"]
    padding = [0, 5, 11]
    assert not table[padding].any() and table.any(dim=1).sum() == 18 - 3, "every feature, in the batch or not"
    batch = gradients(alpha=0.0, constraints="batch")["embedding.weight"] - base["embedding.weight"]
    seen = set(IDS.unique().tolist()) - set(padding)
    assert set(batch.any(dim=1).nonzero().flatten().tolist()) == seen


@pytest.mark.parametrize("constraints", ["table", "batch"])
def test_alignment_and_uniformity_both_give_their_gradient(constraints: str) -> None:
    settings = {"alpha": 0.0, "constraints": constraints}
    base, both = (gradients(beta=beta, **settings)["embedding.weight"] for beta in (0.0, 0.3))
    model, _ = cl4ctr(**settings)
    table = model.embedding.weight
    if constraints == "table":
        fields = [table[1:5], table[6:11], table[12:18]]
        apart = [(a, b) for e, other in combinations(fields, 2) for a in e for b in other]
    else:
        e_BFD = model.embedding(IDS)
        fields = list(e_BFD.unbind(dim=1))
        apart = [pair for row in e_BFD for pair in combinations(row, 2)]
    distances = torch.stack([(a - b).square().sum() for e in fields for a, b in combinations(e, 2)])
    cosines = torch.stack([a @ b / ((a @ a + 1e-8) * (b @ b + 1e-8)).sqrt() for a, b in apart])
    by_alignment, by_uniformity = (
        torch.autograd.grad(part.mean(), table, retain_graph=True)[0] for part in (distances, cosines)
    )
    assert by_alignment.any() and by_uniformity.any()
    torch.testing.assert_close(both - base, 0.3 * (by_alignment + by_uniformity), rtol=1e-9, atol=1e-12)


# ---- the model ----


@pytest.mark.parametrize("hidden_units", [[8, 6], []])
def test_prediction_is_that_of_the_base_model(hidden_units: list[int]) -> None:
    model = build_model("CL4CTR", MIXED, seed=3, **SMALL | {"hidden_units": hidden_units, "dropout": 0.3})
    base = build_model("DeepFM", MIXED, seed=3, **SMALL | {"hidden_units": hidden_units, "dropout": 0.3})
    assert torch.equal(model.eval()(IDS), base.eval()(IDS))
    own = dict(base.named_parameters())
    shared = {name: value for name, value in model.named_parameters() if name in own}
    assert shared.keys() == own.keys() and all(torch.equal(shared[name], own[name]) for name in own)
    encoder = 3 * (4 * D**2 + 3 * D + 2 * D * 128 + 128 + D + 4 * D)
    assert model.num_parameters - base.num_parameters == encoder + 2 * (WIDTH * D + D)
    assert len(model.embedding_parameters()) == len(base.embedding_parameters()) == 2


def test_masks_and_dropout_act_in_training_alone() -> None:
    model = build_model("CL4CTR", MIXED, seed=1, **SMALL | {"encoder_dropout": 0.2, "dropout": 0.3})
    rates = {name: part.rate for name, part in model.named_modules() if isinstance(part, Dropout)}
    assert rates.pop("mask") == 0.5 and rates.pop("mlp.dropout") == 0.3
    assert len(rates) == 6 and set(rates.values()) == {0.2}
    assert isinstance(model, CL4CTR)
    shaken(model)
    e = model.embedding(IDS)
    assert model.contrastive(e) != model.contrastive(e)
    model.eval()
    assert model.contrastive(e) == model.contrastive(e)


def test_several_passes_share_the_other_losses(tiny: CTRDataset) -> None:
    ids, labels = tiny.train.ids[:40], tiny.train.labels[:40]
    settings = SMALL | PLAIN
    one, two = (build_model("CL4CTR", tiny.schema, seed=3, passes=passes, **settings) for passes in (1, 2))
    torch.testing.assert_close(one.training_loss(ids, labels), two.training_loss(ids, labels))


def test_one_field_and_one_row_have_a_loss() -> None:
    for constraints in ("table", "batch"):
        model = build_model("CL4CTR", Schema((Field("a"),), (5,)), constraints=constraints, **SMALL)
        assert model.training_loss(torch.tensor([[2]]), torch.ones(1)).isfinite()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask": "features"}, "Did you mean 'feature'"),
        ({"constraints": "tables"}, "Did you mean 'table'"),
        ({"mask_rate": 1.0}, "outside"),
        ({"encoder_dropout": 1.5}, "outside"),
        ({"encoder_layers": 0}, "at least 1"),
        ({"encoder_units": 0}, "at least 1"),
        ({"alpha": -1.0}, "cannot be negative"),
        ({"beta": -0.1}, "cannot be negative"),
    ],
)
def test_wrong_settings_say_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_model("CL4CTR", MIXED, **SMALL | settings)
