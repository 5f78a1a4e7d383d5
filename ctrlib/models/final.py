r"""FINAL: blocks of factorized interaction layers, whose degree doubles with every layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import MLP, add_product, reset_linear_maps
from ctrlib.losses import soft_target_loss
from ctrlib.models.branches import BranchModel
from ctrlib.models.dnn import DNNSettings, widths

JOINS = ("concat", "sum")


@dataclass(frozen=True)
class FINALSettings(DNNSettings):
    """blocks: 1 or 2. hidden_units, second_units: widths of their layers; with one block the second are not used.

    second_dropout: of block 2; None: as dropout. gate: let block 1 also read the fields weighed by each other. join:
    "concat" or "sum", how a layer joins its linear and its quadratic part. activation and batch_norm hold for both.

    By default the form, though not the widths and rates, of all six runs that the benchmark BARS logged; the public
    class starts from three layers of 64, without gate and activation.
    """

    hidden_units: tuple[int, ...] = (400, 400)
    batch_norm: bool = True
    blocks: int = 2
    second_units: tuple[int, ...] = (400,)
    second_dropout: float | None = None
    gate: bool = True
    join: str = "concat"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "second_units", widths("second_units", self.second_units))
        if self.blocks not in (1, 2):
            raise SettingError(f"blocks is {self.blocks}; FINAL has 1 or 2.")
        if self.join not in JOINS:
            raise unknown("join", self.join, JOINS)
        for units in (self.hidden_units, self.second_units)[: self.blocks]:
            if not units:
                raise SettingError("A block of FINAL needs at least one layer: give its width, such as (400,).")
            if self.join == "concat" and any(width % 2 for width in units):
                raise SettingError(f"Widths {units}: a layer joins two halves, so they must be even, or join be 'sum'.")

    def block(self, in_width: int, units: tuple[int, ...], rate: float) -> MLP:
        """Return a block from `in_width`, with its head."""
        return MLP(
            in_width,
            units,
            nonlinearity=self.activation,
            batch_norm=self.batch_norm,
            dropout=rate,
            head=True,
            linear=partial(FactorizedMap, join=self.join),
        )


class FactorizedMap(nn.Module):
    r"""x (B, m) -> (B, n): $[u \,\|\, u \odot v]$ or $u + u \odot v$ with $[u \,\|\, v] = Wx + b$.

    Joined by concatenation, $u$ and $v$ are n/2 wide, else n. Parameters: $(m + 1) n$, for the sum twice as many.
    """

    def __init__(self, in_width: int, out_width: int, join: str) -> None:
        super().__init__()
        self.join = join
        self.linear = nn.Linear(in_width, out_width if join == "concat" else 2 * out_width)

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.linear(x).chunk(2, dim=1)
        return torch.cat([u, u * v], dim=1) if self.join == "concat" else add_product(u, u, v)


class FieldGate(nn.Module):
    r"""Field vectors E (B, F, D) -> (B, 2F, D): $[E \,\|\, E \odot (G E + \beta \mathbf 1^\top)]$ over the fields.

    $G$ starts at 0 and $\beta$ at 1, so that both halves are E at first. Parameters: $F^2 + F$.
    """

    def __init__(self, num_fields: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_fields, num_fields))
        self.bias = nn.Parameter(torch.ones(num_fields))

    def forward(self, e_BFD: Tensor) -> Tensor:
        factors_BFD = self.weight @ e_BFD + self.bias[:, None]
        return torch.cat([e_BFD, e_BFD * factors_BFD], dim=1)


class FINAL(BranchModel):
    r"""Logits (B,), with blocks $B_s$ of factorized layers and $E_g$ the gated fields.

    $$h_l = \mathrm{Drop}\big(\phi(\mathrm{BN}([u \,\|\, u \odot v]))\big),\quad [u \,\|\, v] = W_l h_{l-1} + b_l,\qquad
      z_s = w_s^\top B_s + c_s,\qquad z = \tfrac12 (z_1 + z_2)$$

    Block 1 reads $\mathrm{flatten}([E \,\|\, E_g])$ of width 2d, or $x$ without the gate; block 2 reads $x$. FINAL(1B)
    is block 1 alone, $z = z_1$. FINAL(2B) learns from itself:
    $$\mathcal L = \mathrm{bce}(\sigma(z), y) + \sum_s \mathrm{bce}\big(\sigma(z_s), \mathrm{sg}\,\sigma(z)\big)$$

    Structure: ids -> embedding -> ((pass | gate) -> concatenation -> factorized layers [block 1] -> linear map |
    factorized layers [block 2] -> linear map) -> mean -> logit -> self-distillation loss

    Parameters: $VD$, for each block $\sum_l (h_{l-1} + 1) h_l + h_L + 1$, with batch norm $2 \sum_l h_l$ more, with the
    gate $F^2 + F$. Joined by a sum, a layer's map has twice as many.

    Source: Zhu, Jia, Cai, Dai, Li, Dong, Tang, Zhang, "FINAL: Factorized Interaction Layer for CTR Prediction", SIGIR
    2023.

    Paper and code: The configurations released with the DS-MLP paper name the gate by a key that the public class does
    not read, so that there it is off.
    """

    def __init__(self, schema: Schema, settings: FINALSettings) -> None:
        super().__init__(schema, settings)
        self.gate = FieldGate(schema.num_fields) if settings.gate else None
        first_width = 2 * self.width if settings.gate else self.width
        self.blocks = nn.ModuleList([settings.block(first_width, settings.hidden_units, settings.dropout)])
        if settings.blocks == 2:
            rate = settings.dropout if settings.second_dropout is None else settings.second_dropout
            self.blocks.append(settings.block(self.width, settings.second_units, rate))
        reset_linear_maps(self)

    def branch_logits(self, e_BFD: Tensor) -> Tensor:
        first = e_BFD if self.gate is None else self.gate(e_BFD)
        inputs = (first.flatten(1), e_BFD.flatten(1))
        return torch.stack([block(x) for block, x in zip(self.blocks, inputs, strict=False)])

    def branch_loss(self, logits_SKB: Tensor, labels_B: Tensor) -> Tensor:
        """Return the sum of the blocks' cross entropies with the model's own probability, which has no gradient."""
        own_KB = logits_SKB.mean(dim=0).detach()
        return len(logits_SKB) * soft_target_loss(logits_SKB, own_KB.expand_as(logits_SKB))


def build(name: str, schema: Schema, settings: FINALSettings) -> FINAL:
    """Return a FINAL of one or two blocks."""
    return FINAL(schema, settings)
