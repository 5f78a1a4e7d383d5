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
from torch.autograd.function import once_differentiable

from ctrlib.layers.precision import full_products, widened


def distinct_pairs(x_dB: Tensor) -> Tensor:
    """Return the products x_i x_j with i <= j of x, one row for each pair: (d, B) -> (P, B).

    Pairs are ordered by i, then j. With the batch last, the pairs of one i are a block of contiguous rows.
    """
    width, batch = x_dB.shape
    pairs_PB = x_dB.new_empty(width * (width + 1) // 2, batch)
    for i, block in enumerate(_blocks(pairs_PB, width)):
        torch.mul(x_dB[i:], x_dB[i], out=block)
    return pairs_PB


def _blocks(pairs_PB: Tensor, width: int) -> tuple[Tensor, ...]:
    """Return for each i the rows of its pairs, (d - i, B)."""
    blocks: tuple[Tensor, ...] = pairs_PB.split(list(range(width, 0, -1)))
    return blocks


class _PairProduct(torch.autograd.Function):
    """out (B, K) = pairs(x)^T (B, P) @ weight (P, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return distinct_pairs(x.t().contiguous()).t() @ weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient_BK,) = gradients
        x, weight = ctx.saved_tensors
        x_dB = x.t().contiguous()
        pairs_PB = distinct_pairs(x_dB)
        weight_gradient = pairs_PB @ gradient_BK
        torch.mm(weight, gradient_BK.t(), out=pairs_PB)  # now the gradient of each pair
        x_gradient = torch.zeros_like(x_dB)
        for i, block in enumerate(_blocks(pairs_PB, len(x_dB))):
            x_gradient[i:].addcmul_(block, x_dB[i])
            x_gradient[i] += block.mul_(x_dB[i:]).sum(dim=0)  # x_i appears twice in x_i x_i
        return x_gradient.t(), weight_gradient


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
        with full_products(x):
            out = _PairProduct.apply(widened(x), self.pair_weight())  # type: ignore[no-untyped-call]
        return out + self.bias  # type: ignore[no-any-return]
