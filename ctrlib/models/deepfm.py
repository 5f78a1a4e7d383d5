"""DeepFM: a factorization machine and an MLP on one embedding table."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ctrlib.data.schema import Schema
from ctrlib.layers import FirstOrder, pair_sum, reset_linear_maps
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import DNNSettings


@dataclass(frozen=True)
class DeepFMSettings(DNNSettings):
    """As for DNN. Without hidden units the MLP is left out, which gives a factorization machine."""


class DeepFM(CTRModel):
    r"""Logits (B,).

    $$z = b + \sum_f w_f + \sum_{i<j} \langle e_i, e_j \rangle + \mathrm{MLP}(x)$$

    Structure: ids -> (first order | embedding -> (inner products | MLP)) -> sum -> logit

    Parameters: those of DNN and $V + 1$.

    Source: Guo, Tang, Ye, Li, He, "DeepFM", IJCAI 2017.

    Paper and code: The bias $b$ of the first-order term is one more than the MLP's own; the public library has it from
    its version 2 on, and totals logged with version 1 are smaller by one.
    """

    def __init__(self, schema: Schema, settings: DeepFMSettings) -> None:
        super().__init__(schema, settings)
        self.first_order = FirstOrder(schema)
        self.mlp = settings.mlp(self.width, head=True) if settings.hidden_units else None
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        pairs = pair_sum(e_BFD)
        return pairs if self.mlp is None else pairs + self.mlp(e_BFD.flatten(1))


def build(name: str, schema: Schema, settings: DeepFMSettings) -> DeepFM:
    """Return a DeepFM."""
    return DeepFM(schema, settings)
