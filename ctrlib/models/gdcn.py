"""GDCN: a gated cross network with an MLP beside it or behind it."""

from __future__ import annotations

from dataclasses import dataclass

from ctrlib.data.schema import Schema
from ctrlib.layers import GatedCrossNetwork
from ctrlib.models.dcn import CrossModel, DCNv2Settings


@dataclass(frozen=True)
class GDCNSettings(DCNv2Settings):
    """As for DCNv2. The structure "parallel" gives GDCN-P, "stacked" GDCN-S; without hidden units it is GCN."""


class GDCN(CrossModel):
    r"""Logits (B,), as of DCNv2 but with the gated cross network $c$ of C layers.

    $$x_{l+1} = x_0 \odot (W^c_l x_l + b_l) \odot \sigma(W^g_l x_l) + x_l$$
    $$z_{parallel} = w^\top \big[c(x) \,\|\, \mathrm{MLP}(x)\big] + b,\qquad
      z_{stacked} = w^\top \mathrm{MLP}(c(x)) + b$$

    Structure: ids -> embedding -> ({C layers: gated cross layer} | MLP) -> concatenation -> linear map -> logit

    Parameters: $VD + C(2d^2 + d) + \sum_l (h_{l-1} + 1) h_l + h_L + 1$, with batch norm $2 \sum_l h_l$ more, and
    parallel $d$ more.

    Source: Wang, Gu, Li, Lu, Zhang, Gu, "Towards Deeper, Lighter and Interpretable Cross Network for CTR Prediction",
    CIKM 2023.

    Paper and code: Eq. 2 of the DS-MLP paper adds two logits; its authors' code has one head on both parts, which is
    the same. The repository of GDCN's own authors draws embeddings and the MLP's maps Xavier-uniform and always has
    batch norm and a dropout of 0.5; here all three are as in the other models.
    """

    network = GatedCrossNetwork


def build(name: str, schema: Schema, settings: GDCNSettings) -> GDCN:
    """Return a GDCN."""
    return GDCN(schema, settings)
