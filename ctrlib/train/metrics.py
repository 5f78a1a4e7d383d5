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
    check_both_classes(labels)
    return float(device_auc(scores, labels))


def check_both_classes(labels: Tensor, split: str = "split") -> None:
    """Raise `DataError` when labels (N,) hold one class, where the AUC is undefined. split: what errors call them."""
    positives = int((labels > 0.5).sum())
    if positives in (0, len(labels)):
        only = "0" if positives == 0 else "1"
        raise DataError(
            f"AUC is undefined: all {len(labels)} labels of the {split} are {only}. "
            "Use a split that holds both classes, or more rows."
        )


def device_auc(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the AUC as a float64 scalar on the scores' device, without waiting for it. NaN when a class is missing.

    One sort. Tied scores share the mean of their ranks, so the sum of the positives' ranks is a multiple of one half
    and exact in float64.
    """
    count = len(scores)
    ordered, order = torch.sort(scores)
    place = torch.arange(count, device=scores.device)
    edge = ordered[1:] != ordered[:-1]  # between two groups of tied scores
    first = torch.zeros_like(place)
    first[1:] = torch.where(edge, place[1:], 0)
    last = torch.full_like(place, count - 1)
    last[:-1] = torch.where(edge, place[:-1], count - 1)
    first = torch.cummax(first, dim=0).values
    last = torch.cummin(last.flip(0), dim=0).values.flip(0)
    rank = (first + last).double() / 2.0 + 1.0
    positive = (labels > 0.5)[order].double()
    num_positive = positive.sum()
    above = (rank * positive).sum() - num_positive * (num_positive + 1.0) / 2.0
    return above / (num_positive * (count - num_positive))


def logloss(logits: Tensor, labels: Tensor) -> float:
    """Return the mean binary cross entropy in nats, computed in float64 from logits (N,)."""
    return float(device_logloss(logits, labels))


def device_logloss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean binary cross entropy as a float64 scalar on the logits' device, without waiting for it."""
    return F.binary_cross_entropy_with_logits(logits.double(), labels.double())
