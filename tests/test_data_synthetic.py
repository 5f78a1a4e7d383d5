"""Synthetic data: declared shape, one law on every machine, planted interactions, the best AUC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ctrlib.data import Field, Schema, criteo_shaped, synthetic_dataset
from ctrlib.data.synthetic import CHUNK, Law, best_auc, criteo_schema
from ctrlib.errors import SettingError
from ctrlib.models import build_model
from ctrlib.train import Protocol, auc, evaluate, fit

SIZES = (12, 300, 40, 5000, 25)


def law(sizes: tuple[int, ...] = SIZES, **settings: Any) -> Law:
    return Law(Schema(tuple(Field(f"f{n}") for n in range(len(sizes))), sizes), **settings)


def test_shape_and_ranges() -> None:
    data = synthetic_dataset((30_000, 300, 200), SIZES, seed=1)
    assert data.rows == {"train": 30_000, "valid": 300, "test": 200} and data.schema.vocab_sizes == SIZES
    ids = data.train.ids
    assert ids.shape == (30_000, 5) and ids.dtype == torch.int32 and data.train.labels.dtype == torch.float32
    for f, (offset, size) in enumerate(zip(data.schema.offsets, SIZES, strict=True)):
        assert ids[:, f].min() > offset, "the first row is padding"
        assert ids[:, f].max() < offset + size - 1, "the last row is OOV"
    assert len(ids[:, 0].unique()) == SIZES[0] - 2, "every token of a small field is drawn"
    assert set(data.train.labels.tolist()) == {0.0, 1.0}
    assert data.notes["positives"]["train"] == int(data.train.labels.sum())


def test_criteo_shape() -> None:
    assert criteo_schema().table_rows == 910_747
    data = criteo_shaped((1000, 100, 100), scale=0.01)
    assert data.train.ids.shape == (1000, 39) and data.schema.num_fields == 39
    assert sum(field.kind == "numeric" for field in data.schema.fields) == 13
    assert 9_000 < data.schema.table_rows < 9_300


def test_the_seed_fixes_every_value() -> None:
    data = synthetic_dataset((500, 50, 50), SIZES, seed=3)
    again = synthetic_dataset((500, 50, 50), SIZES, seed=3)
    other = synthetic_dataset((500, 50, 50), SIZES, seed=4)
    assert data.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(data.train.ids, again.train.ids) and torch.equal(data.train.labels, again.train.labels)
    assert not torch.equal(data.train.ids[:50], data.valid.ids), "splits are drawn apart"
    assert data.fingerprint == "cade2751edf491c2", "the same on every machine; change it only when the law changes"


def test_row_n_does_not_depend_on_how_many_rows_are_drawn() -> None:
    few, many = law().draw("train", 100), law().draw("train", CHUNK + 100)
    for one, other in zip(few, many, strict=True):
        np.testing.assert_array_equal(one, other[:100])


def test_tokens_follow_the_power_law() -> None:
    ids = law((2002,) * 3, exponent=1.25).draw("train", 200_000).ids
    rank = np.arange(1, 51)
    for f in range(3):
        counts = np.sort(np.bincount(ids[:, f]))[::-1][:50]
        slope = np.polyfit(np.log(rank), np.log(counts), 1)[0]
        assert abs(slope + 1.25) < 0.03
    top = [np.bincount(ids[:, f]).argmax() - f * 2002 for f in range(3)]
    assert min(top) > 1, "frequent tokens do not stand first"


@pytest.mark.parametrize(("rate", "target"), [(0.25, 0.8), (0.05, 0.7)])
def test_positive_rate_and_best_auc(rate: float, target: float) -> None:
    rows = law(positive_rate=rate, auc=target).draw("train", 40_000)
    assert abs(rows.labels.mean() - rate) < 0.01
    assert abs(best_auc(rows.p) - target) < 0.01
    assert abs(auc(torch.from_numpy(rows.p), torch.from_numpy(rows.labels)) - best_auc(rows.p)) < 0.01


def test_interactions_are_planted() -> None:
    chosen = law(interaction=0.5)
    rows = chosen.draw("train", 40_000)
    additive, interaction = chosen.parts(rows.ids)
    np.testing.assert_allclose(1 / (1 + np.exp(-additive - interaction)), rows.p, rtol=1e-12)
    assert abs(np.corrcoef(additive, interaction)[0, 1]) < 0.05 and 0.8 < interaction.var() / additive.var() < 1.25
    labels = torch.from_numpy(rows.labels)
    assert auc(torch.from_numpy(additive), labels) < best_auc(rows.p) - 0.05
    # No sum of one-field effects holds a part of an interaction: its mean given any one token is zero.
    for f in range(len(SIZES)):
        token = rows.ids[:, f] == np.bincount(rows.ids[:, f]).argmax()
        assert abs(interaction[token].mean()) < 5 * interaction.std() / np.sqrt(token.sum())


def test_without_interaction_and_with_chosen_pairs() -> None:
    assert not law(interaction=0.0).parts(law().draw("train", 10).ids)[1].any()
    chosen = law(pairs=((0, 4),))
    ids = chosen.draw("train", 2000).ids
    changed = ids.copy()
    changed[:, 1:4] = ids[::-1, 1:4]  # the fields outside the pair
    np.testing.assert_array_equal(chosen.parts(ids)[1], chosen.parts(changed)[1])


def test_a_network_beats_the_best_sum_of_single_effects() -> None:
    chosen = law((22, 32, 27), interaction=0.7)
    data = chosen.dataset((20_000, 2000, 10_000))
    protocol = Protocol(learning_rate=1e-2, batch_size=500, max_epochs=3)
    model = build_model("T9", data.schema, embedding_dim=8, layers=2)
    found = fit(model, data, protocol).test.auc
    additive = torch.from_numpy(chosen.parts(data.test.ids.numpy())[0])
    oracle = auc(additive, data.test.labels)
    assert oracle + 0.03 < found < data.notes["best_auc"]["test"] + 0.015
    assert evaluate(model, data.test).auc == found


@pytest.mark.parametrize("kinds", [3, 10**6])
def test_best_auc_equals_its_definition(kinds: int) -> None:
    p = np.random.default_rng(0).integers(1, kinds, 120) / kinds
    ordered = pairs = 0.0
    for i in range(len(p)):
        for j in range(len(p)):
            if i != j:
                weight = p[i] * (1 - p[j])
                pairs += weight
                ordered += weight * (1.0 if p[i] > p[j] else 0.5 if p[i] == p[j] else 0.0)
    assert abs(best_auc(p) - ordered / pairs) < 1e-12


def test_best_auc_is_the_mean_over_labels() -> None:
    rng = np.random.default_rng(1)
    p = 1 / (1 + np.exp(-rng.normal(-1.2, 1.3, 3000)))
    drawn = [auc(torch.from_numpy(p), torch.from_numpy((rng.random(3000) < p) * 1.0)) for _ in range(300)]
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert error < 1e-3 and abs(np.mean(drawn) - best_auc(p)) < 4 * error


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"exponent": 1.1}, "multiple of 1/8"),
        ({"auc": 0.4}, "auc must lie"),
        ({"positive_rate": 0}, "positive_rate must lie"),
        ({"interaction": 2}, "interaction must lie"),
        ({"pairs": ((1, 1),)}, r"\(1, 1\) is not"),
        ({"interactions": 0.1}, "Did you mean 'interaction'"),
        ({"vocab_sizes": (2, 9)}, "3 rows or more"),
        ({"vocab_sizes": (3, 3)}, "too few tokens"),
        ({"vocab_sizes": (4,), "interaction": 0.0, "auc": 0.99}, "too few tokens for a best AUC"),
        ({"rows": (1, 0, 1)}, "three numbers above 0"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        synthetic_dataset(**({"rows": (10, 10, 10), "vocab_sizes": SIZES} | settings))
