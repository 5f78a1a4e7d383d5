"""Interactions of pairs of fields.

B batch, F fields, D embedding width, P = F(F-1)/2 pairs of fields i < j, ordered by i, then j.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ctrlib.errors import SettingError, unknown


def pair_sum(e_BFD: Tensor) -> Tensor:
    r"""Return the second-order term of a factorization machine: (B, F, D) -> logits (B,).

    $$\sum_{i<j} \langle e_i, e_j \rangle
      = \tfrac12 \sum_k \Big[\big(\textstyle\sum_i e_{ik}\big)^2 - \sum_i e_{ik}^2\Big]$$

    It has no parameters and costs $O(FD)$. Source: Rendle, "Factorization Machines", ICDM 2010.
    """
    square_of_sum_BD = e_BFD.sum(dim=1).square()
    sum_of_squares_BD = e_BFD.square().sum(dim=1)
    return 0.5 * (square_of_sum_BD - sum_of_squares_BD).sum(dim=1)


class _PairProducts(torch.autograd.Function):
    """e (B, F, D) -> e_i * e_j (B, P, D). The pairs of one i are neighbours, so each is one product of blocks."""

    @staticmethod
    def forward(ctx: Any, e_BFD: Tensor) -> Tensor:
        ctx.save_for_backward(e_BFD)
        batch, fields, dim = e_BFD.shape
        pairs_BPD = e_BFD.new_empty(batch, fields * (fields - 1) // 2, dim)
        for i, block in enumerate(_blocks(pairs_BPD, fields)):
            torch.mul(e_BFD[:, i + 1 :], e_BFD[:, i : i + 1], out=block)
        return pairs_BPD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (e_BFD,) = ctx.saved_tensors
        e_gradient = torch.zeros_like(e_BFD)
        for i, block in enumerate(_blocks(gradients[0], e_BFD.shape[1])):
            e_gradient[:, i + 1 :].addcmul_(block, e_BFD[:, i : i + 1])
            e_gradient[:, i] += (block * e_BFD[:, i + 1 :]).sum(dim=1)
        return e_gradient


def _blocks(pairs_BPD: Tensor, fields: int) -> tuple[Tensor, ...]:
    """Return for each i but the last the rows of its pairs, (B, F - 1 - i, D)."""
    blocks: tuple[Tensor, ...] = pairs_BPD.split(list(range(fields - 1, 0, -1)), dim=1)
    return blocks


def pair_products(e_BFD: Tensor) -> Tensor:
    r"""Return $e_i \odot e_j$ for all pairs of fields: (B, F, D) -> (B, P, D).

    A gather of the two sides would write both of them down, and its gradient adds in no fixed order on a GPU.
    """
    return _PairProducts.apply(e_BFD)  # type: ignore[no-any-return, no-untyped-call]


class _Pairs(nn.Module):
    """Where pairs lie in a flattened F x F matrix: `place` (P,). Raises `SettingError` for fewer than 2 fields."""

    place: Tensor

    def __init__(self, num_fields: int) -> None:
        super().__init__()
        if num_fields < 2:
            raise SettingError(f"Pairs of fields need at least 2 fields; the schema has {num_fields}.")
        self.num_fields = num_fields
        first, second = torch.triu_indices(num_fields, num_fields, offset=1)
        self.register_buffer("place", first * num_fields + second, persistent=False)


class InnerProducts(_Pairs):
    r"""e (B, F, D) -> $\langle e_i, e_j \rangle$ for all pairs of fields, (B, P). No parameters."""

    def forward(self, e_BFD: Tensor) -> Tensor:
        gram_BFF = e_BFD @ e_BFD.transpose(1, 2)
        return gram_BFF.flatten(1).index_select(1, self.place)


FORMS = ("scalar", "vectorized", "matrixed")


class WeightedPairs(_Pairs):
    r"""e and g (B, F, D) -> logits (B,), a bilinear form for each pair of fields. Without g it is e.

    $$\sum_{i<j} e_i^\top M_{ij}\, g_j,\qquad
      M_{ij} = r_{ij} I,\quad \mathrm{diag}(m_{ij})\quad\text{or}\quad M_{ij} \in \mathbb R^{D \times D}$$

    in the forms "scalar", "vectorized" and "matrixed". Parameters: $P$, $PD$, $PD^2$. Sources: Pan et al.,
    "Field-weighted Factorization Machines", WWW 2018, for the first; Sun et al., "FM2", WWW 2021, for the others.

    Initial values are Xavier-normal on the tensor of all weights, (P, 1), (P, D) or (P, D, D). The weights are laid
    out as full matrices with zeros for $i \ge j$, so that one product serves all pairs.
    """

    def __init__(self, num_fields: int, dim: int, form: str) -> None:
        super().__init__(num_fields)
        if form not in FORMS:
            raise unknown("form", form, FORMS)
        self.dim, self.form = dim, form
        pairs = len(self.place)
        shape = {"scalar": (pairs, 1), "vectorized": (pairs, dim), "matrixed": (pairs, dim, dim)}[form]
        weight = nn.init.xavier_normal_(torch.empty(shape))
        self.weight = nn.Parameter(weight.squeeze(1) if form == "scalar" else weight)

    def forward(self, e_BFD: Tensor, g_BFD: Tensor | None = None) -> Tensor:
        if self.form == "matrixed":
            x_Bd = e_BFD.flatten(1)
            y_Bd = x_Bd if g_BFD is None else g_BFD.flatten(1)
            return (x_Bd @ self.matrix() * y_Bd).sum(dim=1)
        e_DBF = e_BFD.permute(2, 0, 1).contiguous()
        g_DBF = e_DBF if g_BFD is None else g_BFD.permute(2, 0, 1).contiguous()
        return (e_DBF @ self.matrices() * g_DBF).sum(dim=(0, 2))

    def matrix(self) -> Tensor:
        """Return the D x D weights as the blocks of one matrix, (F * D, F * D)."""
        fields, width = self.num_fields, self.num_fields * self.dim
        full = self._spread(self.weight.flatten(1))
        return full.view(fields, fields, self.dim, self.dim).transpose(1, 2).reshape(width, width)

    def matrices(self) -> Tensor:
        """Return one matrix of weights for every position of a vector, (D, F, F)."""
        weight_PD = self.weight.view(len(self.place), -1).expand(-1, self.dim)
        return self._spread(weight_PD).view(self.num_fields, self.num_fields, self.dim).permute(2, 0, 1)

    def _spread(self, weight_Pn: Tensor) -> Tensor:
        """Return the rows at the places of their pairs, and zeros elsewhere, (F * F, n)."""
        zeros = weight_Pn.new_zeros(self.num_fields**2, weight_Pn.shape[1])
        return zeros.index_copy(0, self.place, weight_Pn)
