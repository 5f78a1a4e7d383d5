"""FINAL: sample by sample in float64, its own loss, its gate, and the totals that the benchmark logged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_baselines import IDS, MIXED, WIDTH, Array, shaken_model, sigmoid, slow_vectors, split_rows, total_of

from ctrlib.data import CTRDataset, Field, Schema
from ctrlib.errors import SettingError
from ctrlib.models import build_model
from ctrlib.models.final import FINAL

LABELS = np.array([1.0, 0.0, 1.0])


def slow_block(x: Array, w: dict[str, Array], name: str, join: str, activation: str) -> float:
    """One block and its head, unit by unit."""
    k = 0
    while f"{name}.linears.{k}.linear.weight" in w:
        mapped = w[f"{name}.linears.{k}.linear.weight"] @ x + w[f"{name}.linears.{k}.linear.bias"]
        half = len(mapped) // 2
        linear = [mapped[i] for i in range(half)]
        product = [mapped[i] * mapped[half + i] for i in range(half)]
        x = np.array(linear + product) if join == "concat" else np.array(linear) + np.array(product)
        norm = f"{name}.norms.{k}"
        if f"{norm}.weight" in w:
            x = (x - w[f"{norm}.running_mean"]) / np.sqrt(w[f"{norm}.running_var"] + 1e-5)
            x = x * w[f"{norm}.weight"] + w[f"{norm}.bias"]
        x, k = np.maximum(x, 0.0) if activation == "relu" else x, k + 1
    return float(w[f"{name}.head.weight"][0] @ x + w[f"{name}.head.bias"][0])


def slow_gate(x: Array, w: dict[str, Array]) -> Array:
    """Flattened fields, then the fields weighed by a mixture of all fields."""
    fields = x.reshape(3, 4)
    gated = np.zeros_like(fields)
    for f in range(3):
        for k in range(4):
            mixture = w["gate.bias"][f]
            for j in range(3):
                mixture += w["gate.weight"][f, j] * fields[j, k]
            gated[f, k] = fields[f, k] * mixture
    return np.concatenate([fields.flatten(), gated.flatten()])


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize(
    ("gate", "join", "batch_norm", "activation"),
    [
        (True, "concat", False, "none"),
        (True, "sum", True, "relu"),
        (False, "concat", True, "relu"),
        (False, "sum", False, "none"),
    ],
)
def test_final_sample_by_sample(blocks: int, gate: bool, join: str, batch_norm: bool, activation: str) -> None:
    settings = {"blocks": blocks, "gate": gate, "join": join, "batch_norm": batch_norm, "activation": activation}
    model, w = shaken_model("FINAL", second_units=[4], **settings)
    wanted = []
    for row in IDS.numpy():
        x = slow_vectors(w["embedding.weight"], row)
        inputs = [slow_gate(x, w) if gate else x, x][:blocks]
        wanted.append(np.mean([slow_block(x, w, f"blocks.{s}", join, activation) for s, x in enumerate(inputs)]))
    np.testing.assert_allclose(model(IDS).detach().numpy(), wanted, rtol=1e-10)
    maps = 1 if join == "concat" else 2
    total = 18 * 4 + maps * ((WIDTH * (1 + gate) + 1) * 8 + 9 * 6) + 2 * 14 * batch_norm + 7
    if blocks == 2:
        total += maps * (WIDTH + 1) * 4 + 2 * 4 * batch_norm + 5
    assert model.num_parameters == total + (9 + 3) * gate


def test_the_gate_leaves_fields_as_they_are_at_first() -> None:
    model = build_model("FINAL", MIXED, seed=1, embedding_dim=4)
    assert isinstance(model, FINAL) and model.gate is not None
    e_BFD = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.gate(e_BFD), torch.cat([e_BFD, e_BFD], dim=1))


# Logged with library version 2: fields, rows of the table, D, widths of the blocks, total.
LOGGED = [
    (10, 5399, 10, [400, 400], [400], 338502),
    (3, 90242, 10, [400, 400], [500], 1106234),
    (22, 1298621, 10, [800], [800, 800], 14163518),
    (39, 910747, 16, [1000] * 3, [512], 18153050),
]


@pytest.mark.parametrize(("fields", "rows", "dim", "first", "second", "total"), LOGGED)
def test_totals_equal_the_logs(fields: int, rows: int, dim: int, first: Any, second: Any, total: int) -> None:
    values = {"embedding_dim": dim, "hidden_units": first, "second_units": second}
    assert total_of("FINAL", split_rows(fields, rows), values) == total


def slow_loss(logits: Array) -> tuple[float, float, float]:
    """The cross entropy of the mean logit with the labels, and of each block with the mean's probability."""
    own = sigmoid(logits.mean(axis=0))
    terms = []
    for z, target in ((logits.mean(axis=0), LABELS), (logits[0], own), (logits[1], own)):
        p = sigmoid(z)
        each = [-(t * np.log(q) + (1 - t) * np.log(1 - q)) for q, t in zip(p, target, strict=True)]
        terms.append(sum(each) / len(each))
    return terms[0], terms[1], terms[2]


def test_self_distillation_equals_the_slow_form_and_so_does_its_gradient() -> None:
    """On the logit of block s it is (p - y) / 2B + (p_s - p) / B: the target has no gradient."""
    logits = np.array([[2.0, -1.0, 0.5], [-0.5, 1.5, -1.0]])
    model, _ = shaken_model("FINAL", second_units=[4])
    values = torch.from_numpy(logits).requires_grad_()
    model.branch_logits = lambda e_BFD: values
    loss = model.training_loss(IDS, torch.from_numpy(LABELS))
    assert loss.item() == pytest.approx(sum(slow_loss(logits)), rel=1e-12)
    own, each = sigmoid(logits.mean(axis=0)), sigmoid(logits)
    by_labels, by_own = (own - LABELS) / 2 / 3, (each - own) / 3
    (gradient,) = torch.autograd.grad(loss, values)
    np.testing.assert_allclose(gradient.numpy(), by_labels + by_own, rtol=1e-10)
    assert min(abs(by_labels).max(), *abs(by_own).max(axis=1)) > 1e-2, "every term moves the blocks"


def test_one_block_has_the_plain_loss_and_equal_blocks_no_pull() -> None:
    model, _ = shaken_model("FINAL", blocks=1)
    labels = torch.from_numpy(LABELS)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(model(IDS), labels)
    torch.testing.assert_close(model.training_loss(IDS, labels), plain, rtol=1e-12, atol=0.0)
    both = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64).expand(2, 1, 3).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.branch_loss(both, labels), both)
    assert gradient.abs().max() < 1e-15


def test_passes_share_the_loss_of_one_without_dropout(tiny: CTRDataset) -> None:
    ids, labels = tiny.train.ids[:40], tiny.train.labels[:40]
    settings: dict[str, Any] = {"seed": 3, "embedding_dim": 4, "hidden_units": [8], "second_units": [6]}
    losses = [build_model("FINAL", tiny.schema, dropout=0.0, passes=k, **settings) for k in (1, 3)]
    torch.testing.assert_close(losses[0].training_loss(ids, labels), losses[1].training_loss(ids, labels))
    wet = build_model("FINAL", tiny.schema, dropout=0.3, loss="self-ensemble", passes=2, **settings)
    assert wet.training_loss(ids, labels) != wet.training_loss(ids, labels)


def test_dropout_of_the_second_block_is_its_own() -> None:
    model = build_model("FINAL", MIXED, dropout=0.2, second_dropout=0.4)
    assert isinstance(model, FINAL)
    assert [block.dropout.rate for block in model.blocks] == [0.2, 0.4]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": 3}, "1 or 2"),
        ({"join": "product"}, "concat"),
        ({"hidden_units": []}, "at least one layer"),
        ({"second_units": []}, "at least one layer"),
        ({"hidden_units": [8, 5]}, "even"),
        ({"second_units": [5]}, "even"),
        ({"second_units": 8}, "second_units is 8"),
        ({"second_dropout": 1.0}, "outside"),
        ({"gates": True}, "Did you mean 'gate'"),
        ({"loss": "cosine", "passes": 2}, "does not give"),
    ],
)
def test_wrong_settings_say_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        build_model("FINAL", Schema((Field("a"), Field("b")), (5, 6)), **settings)


def test_odd_widths_are_fine_where_they_are_not_split_or_not_used() -> None:
    build_model("FINAL", MIXED, embedding_dim=3, hidden_units=[5], second_units=[7], join="sum")
    build_model("FINAL", MIXED, embedding_dim=3, hidden_units=[6], second_units=[7], blocks=1)
