r"""The bilinear form $\mathcal B(x, x)_k = x^\top A_k x + a_k$ as one matrix product over distinct pairs.

$x_i x_j$ and $x_j x_i$ are the same number, so only the $P = d(d+1)/2$ products with $i \le j$ are needed and
the weight of a pair is $A_{kij} + A_{kji}$ (once for $i = j$). The parameter stays the full tensor: gradients,
parameter counts and weight decay are those of the bilinear form. The products are never kept for the backward
pass; they are computed again from $x$.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def distinct_pairs(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the products x_i x_j of x (B, d) over the pairs (first, second), shape (B, P)."""
    return x.index_select(1, first) * x.index_select(1, second)


class _PairProduct(torch.autograd.Function):
    """out (B, K) = pairs(x) (B, P) @ weight (P, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, first, second)
        return distinct_pairs(x, first, second) @ weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient_BK,) = gradients
        x, weight, first, second = ctx.saved_tensors
        batch, width = x.shape
        pairs_BP = distinct_pairs(x, first, second)
        weight_gradient = pairs_BP.t() @ gradient_BK
        torch.mm(gradient_BK, weight.t(), out=pairs_BP)  # now the gradient of each pair product
        square = torch.zeros(width, width, dtype=torch.int64, device=x.device)
        square[first, second] = torch.arange(len(first), device=x.device)
        square = torch.maximum(square, square.t())  # (d, d): the pair that holds (i, j)
        full = pairs_BP.index_select(1, square.flatten()).view(batch, width, width)
        full.diagonal(dim1=1, dim2=2).mul_(2.0)  # x_i appears twice in x_i x_i
        return torch.bmm(full, x[:, :, None]).squeeze(2), weight_gradient, None, None


class Bilinear(nn.Module):
    """x (B, d) -> (B, K) by a tensor of shape (K, d, d) and a bias (K,).

    Initial values are uniform within 1/sqrt(d), the framework's default that the authors' reset leaves alone.
    """

    first: Tensor
    second: Tensor

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(in_width)
        self.weight = nn.Parameter(torch.empty(out_width, in_width, in_width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_width).uniform_(-bound, bound))
        first, second = torch.triu_indices(in_width, in_width)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second, persistent=False)

    def pair_weight(self) -> Tensor:
        """Return the weight of each distinct pair, shape (P, K)."""
        i, j = self.first, self.second
        both = self.weight[:, i, j] + self.weight[:, j, i]
        return (both * torch.where(i == j, 0.5, 1.0).to(both.dtype)).t()

    def forward(self, x: Tensor, same: Tensor | None = None) -> Tensor:
        """Return B(x, x); the second argument exists so that formats can be written B(x, x)."""
        out = _PairProduct.apply(x, self.pair_weight(), self.first, self.second)  # type: ignore[no-untyped-call]
        return out + self.bias  # type: ignore[no-any-return]
