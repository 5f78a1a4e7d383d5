"""LR: a logistic regression on the features, and what models of one pass share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ctrlib import seeds
from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.layers import FirstOrder
from ctrlib.losses import LOSSES
from ctrlib.models.base import CTRModel, ModelSettings


@dataclass(frozen=True)
class OnePassSettings(ModelSettings):
    """As for every model, but nothing is dropped: dropout has no effect."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in LOSSES:
            raise SettingError(
                f"Loss '{self.loss}' compares states; a model without hidden layers gives logits: {', '.join(LOSSES)}."
            )


class OnePassModel(CTRModel):
    """Base of models without dropout whose logits come from ids; `interact` is not defined.

    A subclass defines `forward`. All passes give the same logits, so there is one.
    """

    settings: OnePassSettings

    def training_loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        logits_KB = self(ids).expand(self.settings.passes, -1)
        return LOSSES[self.settings.loss](logits_KB, labels)


@dataclass(frozen=True)
class LRSettings(OnePassSettings):
    """The weights are first-order ones: dropout, embedding_dim, embedding_std and pooling have no effect on them.

    The table is one wide: whatever is given, embedding_dim is 1.
    """

    embedding_dim: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "embedding_dim", 1)


class LR(OnePassModel):
    r"""Logits (B,), one weight for each feature (`ctrlib.layers.FirstOrder`).

    $$z = b + \sum_f w_f$$

    Structure: ids -> first order -> logit

    Parameters: $V + 1$. There is no embedding table.

    Source: Richardson, Dominowska, Ragno, "Predicting Clicks", WWW 2007.

    Paper and code: The public library multiplies the weight of a numeric field by the field's value; here every field
    holds tokens, and each token has a weight.
    """

    settings: LRSettings
    first_order: FirstOrder

    def __init__(self, schema: Schema, settings: LRSettings) -> None:
        super().__init__(schema, settings)
        del self.embedding
        self.first_order = FirstOrder(schema)

    def reset_tables(self, seed: int) -> None:
        self.first_order.embedding.reset(seeds.stream(seed, "first-order"))

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.first_order(ids)
        return logits


def build(name: str, schema: Schema, settings: LRSettings) -> LR:
    """Return an LR."""
    return LR(schema, settings)
