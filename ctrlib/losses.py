r"""Losses over one or several passes of a network.

K passes, B batch. Logits come as (K, B), labels as (B,); $p_k = \sigma(z_k)$ and $\bar p$ is their mean over
passes. Every loss is a mean over the batch, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def bce_loss(logits_KB: Tensor, labels_B: Tensor) -> Tensor:
    """Binary cross entropy, averaged over passes and batch."""
    return F.binary_cross_entropy_with_logits(logits_KB, labels_B.expand_as(logits_KB))


def mean_probability_bce(logits_KB: Tensor, labels_B: Tensor) -> Tensor:
    r"""Binary cross entropy of the mean probability, $\mathrm{bce}(\bar p, y)$, from logits without overflow."""
    passes = math.log(logits_KB.shape[0])
    log_mean = torch.logsumexp(F.logsigmoid(logits_KB), dim=0) - passes
    log_rest = torch.logsumexp(F.logsigmoid(-logits_KB), dim=0) - passes
    return -(labels_B * log_mean + (1.0 - labels_B) * log_rest).mean()


def consistency(logits_KB: Tensor) -> Tensor:
    r"""Self-ensemble term $\sum_k \mathrm{bce}(p_k, \mathrm{sg}\,\bar p)$ (QNN-alpha paper, section 3.3).

    The target carries no gradient, so the gradient on logit k is $(p_k - \bar p)/B$: it pulls every pass to the
    mean of the passes, and vanishes when the passes agree.
    """
    target_B = torch.sigmoid(logits_KB).mean(dim=0).detach()
    each = F.binary_cross_entropy_with_logits(logits_KB, target_B.expand_as(logits_KB), reduction="none")
    return each.sum(dim=0).mean()


def self_ensemble_loss(logits_KB: Tensor, labels_B: Tensor) -> Tensor:
    r"""$\mathrm{bce}(\bar p, y) + \sum_k \mathrm{bce}(p_k, \mathrm{sg}\,\bar p)$, all weights 1 (Eq. 11)."""
    return mean_probability_bce(logits_KB, labels_B) + consistency(logits_KB)


Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {"bce": bce_loss, "self-ensemble": self_ensemble_loss}
