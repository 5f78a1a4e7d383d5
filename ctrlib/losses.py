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

from ctrlib.errors import SettingError, unknown


def bce_loss(logits_KB: Tensor, labels_B: Tensor) -> Tensor:
    """Binary cross entropy, averaged over passes and batch."""
    return F.binary_cross_entropy_with_logits(logits_KB, labels_B.expand_as(logits_KB))


def mean_probability_bce(logits_KB: Tensor, labels_B: Tensor) -> Tensor:
    r"""Binary cross entropy of the mean probability, $\mathrm{bce}(\bar p, y)$, from logits without overflow."""
    passes = math.log(logits_KB.shape[0])
    log_mean = torch.logsumexp(F.logsigmoid(logits_KB), dim=0) - passes
    log_rest = torch.logsumexp(F.logsigmoid(-logits_KB), dim=0) - passes
    return -(labels_B * log_mean + (1.0 - labels_B) * log_rest).mean()


def mean_probability_logit(logits_KB: Tensor) -> Tensor:
    r"""Logits (B,) of the mean probability, $\sigma^{-1}(\bar p)$, without overflow."""
    return torch.logsumexp(F.logsigmoid(logits_KB), 0) - torch.logsumexp(F.logsigmoid(-logits_KB), 0)


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


def symmetric_kl_loss(logits_KB: Tensor, labels_B: Tensor) -> Tensor:
    r"""$\mathrm{bce}(\bar p, y)$ and the mean of $\mathrm{kl}(p_j \| p_k)$ over ordered pairs $j \ne k$.

    For two passes the second part is $\tfrac12[\mathrm{kl}(p_1 \| p_2) + \mathrm{kl}(p_2 \| p_1)]$, as in R-Drop (Wu et
    al., NeurIPS 2021). The QNN-alpha paper names a KL loss in Figure 6 and gives no equation: this form is our reading.
    """
    passes = logits_KB.shape[0]
    p_KB = torch.sigmoid(logits_KB)
    # kl(j||k) + kl(k||j) = (p_j - p_k) (z_j - z_k), so the sum over ordered pairs needs no logarithm.
    differences = (p_KB[:, None] - p_KB) * (logits_KB[:, None] - logits_KB)
    between = differences.sum(dim=(0, 1)).mean() / 2.0
    return mean_probability_bce(logits_KB, labels_B) + between / max(1, passes * (passes - 1))


def squared_loss(logits_KB: Tensor, labels_B: Tensor) -> Tensor:
    r"""$\mathrm{bce}(\bar p, y) + \tfrac12 \sum_k (p_k - \mathrm{sg}\,\bar p)^2$.

    Figure 6 of the QNN-alpha paper compares five losses and names two; a squared error is our reading.
    """
    p_KB = torch.sigmoid(logits_KB)
    spread = 0.5 * (p_KB - p_KB.mean(dim=0).detach()).square().sum(dim=0).mean()
    return mean_probability_bce(logits_KB, labels_B) + spread


def weak_parts(whole: Tensor, each_K: Tensor) -> Tensor:
    r"""$\sum_k \max(0, \mathcal L_k - \mathcal L_0)\,\mathcal L_k$ of K parts; only those worse than the whole count.

    The weight carries a gradient, as in the public code of FCN (Li et al., KDD 2026).
    """
    return (torch.relu(each_K - whole) * each_K).sum()


def tri_bce_loss(logits_KB: Tensor, labels_B: Tensor) -> Tensor:
    r"""$\mathcal L_0 + \sum_k \max(0, \mathcal L_k - \mathcal L_0)\,\mathcal L_k$.

    $\mathcal L_0 = \mathrm{bce}(\bar p, y)$ and $\mathcal L_k = \mathrm{bce}(p_k, y)$ are means over the batch; see
    `weak_parts`. From FCN, where two networks stand in place of the passes. The QNN-alpha paper names it as an
    inspiration; its use in Figure 6 is our reading.
    """
    whole = mean_probability_bce(logits_KB, labels_B)
    targets = labels_B.expand_as(logits_KB)
    each_K = F.binary_cross_entropy_with_logits(logits_KB, targets, reduction="none").mean(dim=1)
    return whole + weak_parts(whole, each_K)


def cosine_loss(logits_KB: Tensor, labels_B: Tensor, states_KBd: Tensor) -> Tensor:
    r"""$\mathrm{bce}(\bar p, y)$ and $1 - \cos$ of the last layer's states (K, B, d), a mean over pairs of passes.

    Figure 6 of the QNN-alpha paper compares five losses and names two; this one is our reading.
    """
    passes = logits_KB.shape[0]
    unit_KBd = F.normalize(states_KBd, dim=-1)
    # The squared length of the sum of K unit vectors is K plus twice the sum of all cosines.
    cosines_B = (unit_KBd.sum(dim=0).square().sum(dim=-1) - passes) / 2.0
    pairs = max(1, passes * (passes - 1) // 2)
    return mean_probability_bce(logits_KB, labels_B) + (1.0 - cosines_B / pairs).mean()


Loss = Callable[[Tensor, Tensor], Tensor]
StateLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "bce": bce_loss,
    "self-ensemble": self_ensemble_loss,
    "mean-probability": mean_probability_bce,
    "symmetric-kl": symmetric_kl_loss,
    "squared": squared_loss,
    "tri-bce": tri_bce_loss,
}
STATE_LOSSES: dict[str, StateLoss] = {"cosine": cosine_loss}
"""Losses that also compare the last layer's states; a model offers them by `interact_states`."""


def soft_target_loss(student_B: Tensor, teacher_B: Tensor) -> Tensor:
    r"""$\mathrm{bce}(\sigma(z_S), \sigma(z_T))$: cross entropy with the teacher's probability as target.

    DS-MLP paper, Eq. 5 with the text of 3.1.3. The equation's minus sign is left out: it would drive the two apart.
    """
    return F.binary_cross_entropy_with_logits(student_B, torch.sigmoid(teacher_B))


def kl_to_student(student_B: Tensor, teacher_B: Tensor) -> Tensor:
    r"""$\mathrm{kl}(p_T \| p_S)$: the soft-target cross entropy less the teacher's entropy.

    DS-MLP paper, Algorithm 1, step 8. There it compares hidden states, which have different widths and are no
    distributions; on predictions it is defined. A frozen teacher's entropy is constant, so the gradient is that of
    `soft_target_loss`.
    """
    target_B = torch.sigmoid(teacher_B)
    return (
        target_B * (F.logsigmoid(teacher_B) - F.logsigmoid(student_B))
        + (1.0 - target_B) * (F.logsigmoid(-teacher_B) - F.logsigmoid(-student_B))
    ).mean()


def squared_difference(student_B: Tensor, teacher_B: Tensor) -> Tensor:
    r"""$\overline{(t - s)^2}$ (DS-MLP paper, section 3.5)."""
    return (teacher_B - student_B).square().mean()


def squared_mean_difference(student_B: Tensor, teacher_B: Tensor) -> Tensor:
    r"""$(\overline{t - s})^2$, the square of a mean (the authors' code).

    Its gradient has one sign for the whole batch: it moves all predictions up or all down.
    """
    return (teacher_B - student_B).mean().square()


DISTILLATION: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": soft_target_loss,
    "kl": kl_to_student,
    "squared": squared_difference,
    "squared-mean": squared_mean_difference,
}
"""Losses of student and teacher. The first two take logits and compare probabilities."""
COMPARED = ("logits", "probabilities")


def distillation_loss(
    name: str, student_B: Tensor, teacher_B: Tensor, *, temperature: float = 1.0, on: str = "logits"
) -> Tensor:
    """Return the distillation loss of logits (B,), a scalar; the teacher's carry no gradient.

    Both are divided by the temperature first, and the loss is not multiplied by its square. on: whether the squared
    losses compare logits or probabilities. Raises `SettingError` for an unknown name and a temperature of 0 or less.
    """
    if name not in DISTILLATION:
        raise unknown("distillation loss", name, DISTILLATION)
    if on not in COMPARED:
        raise unknown("thing to compare", on, COMPARED)
    if temperature <= 0:
        raise SettingError(f"temperature is {temperature}; logits are divided by it, so it must be above 0.")
    student_B, teacher_B = student_B / temperature, teacher_B.detach() / temperature
    if on == "probabilities" and name.startswith("squared"):
        student_B, teacher_B = torch.sigmoid(student_B), torch.sigmoid(teacher_B)
    return DISTILLATION[name](student_B, teacher_B)
