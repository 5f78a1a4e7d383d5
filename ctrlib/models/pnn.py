"""PNN: an MLP on the embedding and on products of its fields."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ctrlib.data.schema import Schema
from ctrlib.errors import unknown
from ctrlib.layers import InnerProducts, reset_linear_maps
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import DNNSettings

PRODUCTS = ("inner", "outer", "both")


@dataclass(frozen=True)
class PNNSettings(DNNSettings):
    """product: what the MLP takes beside the embedding, "inner" (IPNN), "outer" (OPNN) or "both"."""

    product: str = "inner"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.product not in PRODUCTS:
            raise unknown("product", self.product, PRODUCTS)


class PNN(CTRModel):
    r"""Logits (B,), with the sum of the fields $s = \sum_i e_i$.

    $$z = \mathrm{MLP}\big(\big[x \,\|\, p\big]\big),\qquad
      p_{inner} = \big(\langle e_i, e_j \rangle\big)_{i<j},\quad p_{outer} = \mathrm{vec}(s s^\top)$$

    "both" takes $[x \,\|\, p_{inner} \,\|\, p_{outer}]$.

    Structure: ids -> embedding -> (pass | inner products) -> concatenation -> MLP -> logit

    Parameters: those of DNN, with $h_0 = d + P$, $d + D^2$ or $d + P + D^2$ and $P = F(F-1)/2$.

    Source: Qu, Cai, Ren, Zhang, Yu, Wen, Wang, "Product-based Neural Networks for User Response Prediction", ICDM 2016.

    Paper and code: The paper maps $x$ and $p$ to the first hidden layer by separate matrices, and the inner products by
    a low-rank one that also weighs $\langle e_i, e_i \rangle$. The public code has the inner form alone, with one
    matrix and the pairs $i < j$; we follow it, and the paper in the outer form, which adds up all pairs.
    """

    def __init__(self, schema: Schema, settings: PNNSettings) -> None:
        super().__init__(schema, settings)
        self.inner = InnerProducts(schema.num_fields) if settings.product != "outer" else None
        self.outer = settings.product != "inner"
        pairs = 0 if self.inner is None else len(self.inner.place)
        self.mlp = settings.mlp(self.width + pairs + self.outer * settings.embedding_dim**2, head=True)
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        parts = [e_BFD.flatten(1)]
        if self.inner is not None:
            parts.append(self.inner(e_BFD))
        if self.outer:
            s_BD = e_BFD.sum(dim=1)
            parts.append((s_BD[:, :, None] * s_BD[:, None, :]).flatten(1))
        logits: Tensor = self.mlp(torch.cat(parts, dim=1))
        return logits


def build(name: str, schema: Schema, settings: PNNSettings) -> PNN:
    """Return a PNN."""
    return PNN(schema, settings)
