"""DLRM: an MLP on the inner products of fields."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ctrlib.data.schema import Schema
from ctrlib.errors import unknown
from ctrlib.layers import InnerProducts, reset_linear_maps
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import DNNSettings

INTERACTIONS = ("dot", "cat")


@dataclass(frozen=True)
class DLRMSettings(DNNSettings):
    """interaction: what the MLP takes, "dot" (inner products of fields) or "cat" (the embedding, as in DNN).

    hidden_units, batch_norm, activation and dropout are those of the MLP on top, the only one here.
    """

    interaction: str = "dot"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interaction not in INTERACTIONS:
            raise unknown("interaction", self.interaction, INTERACTIONS)


class DLRM(CTRModel):
    r"""Logits (B,).

    $$z_{dot} = \mathrm{MLP}\big((\langle e_i, e_j \rangle)_{i<j}\big),\qquad z_{cat} = \mathrm{MLP}(x)$$

    Structure: ids -> embedding -> inner products -> MLP -> logit

    Parameters: those of DNN, with $h_0 = F(F-1)/2$ for "dot".

    Source: Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation Systems", arXiv
    1906.00091, 2019.

    Paper and code: The paper sends numbers through a bottom MLP to one more vector of width D, which takes part in the
    products and joins them. The fields of a `Schema` have tokens, numeric ones too, so there is none here; without
    numeric fields the public code leaves it out as well. Then "cat" is DNN.
    """

    def __init__(self, schema: Schema, settings: DLRMSettings) -> None:
        super().__init__(schema, settings)
        self.inner = InnerProducts(schema.num_fields) if settings.interaction == "dot" else None
        width = self.width if self.inner is None else len(self.inner.place)
        self.mlp = settings.mlp(width, head=True)
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        x = e_BFD.flatten(1) if self.inner is None else self.inner(e_BFD)
        logits: Tensor = self.mlp(x)
        return logits


def build(name: str, schema: Schema, settings: DLRMSettings) -> DLRM:
    """Return a DLRM."""
    return DLRM(schema, settings)
