"""Exact AUC and logloss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ctrlib.errors import DataError


@dataclass(frozen=True)
class Scores:
    """auc: a fraction, 0.5 is chance. logloss: mean binary cross entropy in nats."""

    auc: float
    logloss: float

    def to_dict(self) -> dict[str, float]:
        """Return both as a plain dict."""
        return {"auc": self.auc, "logloss": self.logloss}


def auc(scores: Tensor, labels: Tensor) -> float:
    """Return the probability that a random positive scores above a random negative, ties counted half.

    scores and labels: (N,). Raises `DataError` when one class is missing, where the AUC is undefined.
    """
    positives = labels > 0.5
    num_positive = int(positives.sum())
    num_negative = len(labels) - num_positive
    if num_positive == 0 or num_negative == 0:
        only = "0" if num_positive == 0 else "1"
        raise DataError(
            f"AUC is undefined: all {len(labels)} labels of this split are {only}. "
            "Use a split that holds both classes, or more rows."
        )
    ordered, order = torch.sort(scores)
    _, counts = torch.unique_consecutive(ordered, return_counts=True)
    last = torch.cumsum(counts, 0).to(torch.float64)
    rank_of_group = last - (counts.to(torch.float64) - 1.0) / 2.0  # mean rank of tied scores
    ranks = torch.repeat_interleave(rank_of_group, counts)
    above = ranks[positives[order]].sum() - num_positive * (num_positive + 1) / 2.0
    return float(above / (num_positive * num_negative))


def logloss(logits: Tensor, labels: Tensor) -> float:
    """Return the mean binary cross entropy in nats, computed in float64 from logits (N,)."""
    return float(F.binary_cross_entropy_with_logits(logits.double(), labels.double()))
