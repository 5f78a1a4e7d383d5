"""AUC and logloss against scikit-learn and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from ctrlib.errors import DataError
from ctrlib.train import auc, logloss


@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_the_definition_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, 200) / 4.0
    labels = (rng.random(200) < 0.3).astype(np.float32)
    above = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    by_pairs = ((above > 0) + 0.5 * (above == 0)).mean()
    ours = auc(torch.tensor(scores), torch.tensor(labels))
    assert abs(ours - by_pairs) < 1e-12
    assert abs(ours - roc_auc_score(labels, scores)) < 1e-12


def test_auc_laws() -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(500), (torch.rand(500) > 0.6).float()
    value = auc(scores, labels)
    order = torch.randperm(500)
    assert auc(scores[order], labels[order]) == value
    assert auc(scores * 3 - 7, labels) == value  # only the order counts
    assert abs(auc(-scores, labels) - (1 - value)) < 1e-12
    assert auc(torch.zeros(500), labels) == 0.5
    assert auc(labels, labels) == 1.0


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_auc_of_one_class_is_undefined(label: float) -> None:
    with pytest.raises(DataError, match=f"all 5 labels of the split are {int(label)}"):
        auc(torch.randn(5), torch.full((5,), label))


def test_logloss_equals_scikit_learn() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(300, dtype=torch.float64) * 3, (torch.rand(300) > 0.5).float()
    assert abs(logloss(logits, labels) - log_loss(labels.numpy(), torch.sigmoid(logits).numpy())) < 1e-12
    assert np.isfinite(logloss(torch.tensor([900.0, -900.0]), torch.tensor([0.0, 1.0])))
