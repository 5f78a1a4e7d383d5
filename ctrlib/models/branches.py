"""Models whose logit is the mean of several networks' logits, each with a term of its own in the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.losses import LOSSES
from ctrlib.models.base import CTRModel, ModelSettings


class BranchModel(CTRModel):
    r"""Logits (B,): $z = \tfrac1S \sum_s z_s$ of S branches.

    The training loss is the settings' loss of $z$ and, with two branches or more, `branch_loss`. Several passes share
    the look-up: the settings' loss compares their $z$, and a branch's loss is its mean over passes.
    """

    def __init__(self, schema: Schema, settings: ModelSettings) -> None:
        super().__init__(schema, settings)
        if settings.loss not in LOSSES:
            raise SettingError(
                f"Loss '{settings.loss}' compares the last layer's states, which {type(self).__name__} does not give. "
                f"Choose one of {', '.join(LOSSES)}."
            )

    def branch_logits(self, e_BFD: Tensor) -> Tensor:
        """Return each branch's logits, (S, B)."""
        raise NotImplementedError

    def branch_loss(self, logits_SKB: Tensor, labels_B: Tensor) -> Tensor:
        """Return what the branches add to the loss, a scalar."""
        raise NotImplementedError

    def interact(self, e_BFD: Tensor) -> Tensor:
        return self.branch_logits(e_BFD).mean(dim=0)

    def training_loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        e_BFD = self.embedding(ids)
        logits_SKB = torch.stack([self.branch_logits(e_BFD) for _ in range(self.settings.passes)], dim=1)
        loss = LOSSES[self.settings.loss](logits_SKB.mean(dim=0), labels)
        return loss if len(logits_SKB) == 1 else loss + self.branch_loss(logits_SKB, labels)
