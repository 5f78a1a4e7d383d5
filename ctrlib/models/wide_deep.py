"""Wide & Deep: a first-order term and an MLP."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ctrlib.data.schema import Schema
from ctrlib.layers import FirstOrder, reset_linear_maps
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import DNNSettings


@dataclass(frozen=True)
class WideDeepSettings(DNNSettings):
    """As for DNN."""


class WideDeep(CTRModel):
    r"""Logits (B,).

    $$z = \sum_f w_f + \mathrm{MLP}(x)$$

    Structure: ids -> (first order | embedding -> MLP) -> sum -> logit

    Parameters: those of DNN and $V$.

    Source: Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016.

    Paper and code: The paper's wide part also takes crosses of features that were chosen by hand; the public code, and
    this one, take single features. The bias is the MLP's.
    """

    def __init__(self, schema: Schema, settings: WideDeepSettings) -> None:
        super().__init__(schema, settings)
        self.first_order = FirstOrder(schema, bias=False)
        self.mlp = settings.mlp(self.width, head=True)
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        logits: Tensor = self.mlp(e_BFD.flatten(1))
        return logits


def build(name: str, schema: Schema, settings: WideDeepSettings) -> WideDeep:
    """Return a Wide & Deep."""
    return WideDeep(schema, settings)
