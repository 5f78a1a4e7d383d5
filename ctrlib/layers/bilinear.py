r"""The bilinear form $\mathcal B(x, x)_k = x^\top A_k x + a_k$ as one matrix product over distinct pairs.

$x_i x_j$ and $x_j x_i$ are the same number, so only the $P = d(d+1)/2$ products with $i \le j$ are needed and
the weight of a pair is $A_{kij} + A_{kji}$ (once for $i = j$). The parameter stays the full tensor: gradients,
parameter counts and weight decay are those of the bilinear form. The products are never kept for the backward
pass; they are computed again from $x$. On a CPU this goes block by block, so that they never travel to memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ctrlib.layers.precision import full_products, widened

BLOCK_ROWS = 512  # samples whose pairs stay in a CPU's cache until they have been used


def distinct_pairs(x_dB: Tensor, out_PB: Tensor | None = None) -> Tensor:
    """Return the products x_i x_j with i <= j of x, one row for each pair: (d, B) -> (P, B).

    Pairs are ordered by i, then j. With the batch last, the pairs of one i are a block of contiguous rows. out_PB: a
    tensor that takes them.
    """
    width, batch = x_dB.shape
    pairs_PB = x_dB.new_empty(width * (width + 1) // 2, batch) if out_PB is None else out_PB
    for i, block in enumerate(_of_each_i(pairs_PB, width)):
        torch.mul(x_dB[i:], x_dB[i], out=block)
    return pairs_PB


def _of_each_i(pairs_PB: Tensor, width: int) -> tuple[Tensor, ...]:
    """Return for each i the rows of its pairs, (d - i, B)."""
    blocks: tuple[Tensor, ...] = pairs_PB.split(list(range(width, 0, -1)))
    return blocks


class _Blocks:
    """The samples of x (B, d) in blocks, transposed, with one place in memory for the pairs of all blocks."""

    def __init__(self, x: Tensor, pairs: int) -> None:
        self.x, self.pairs = x, pairs
        self.rows = len(x) if x.is_cuda else min(BLOCK_ROWS, len(x))
        self.place = x.new_empty(pairs * self.rows)

    def __iter__(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield the block's place in the batch, its x (d, C), and its pairs (P, C), which the next block overwrites."""
        for start in range(0, len(self.x), max(1, self.rows)):
            x_dC = self.x[start : start + self.rows].t().contiguous()
            count = x_dC.shape[1]
            pairs_PC = self.place[: self.pairs * count].view(self.pairs, count)
            yield slice(start, start + count), x_dC, distinct_pairs(x_dC, pairs_PC)


class _PairProduct(torch.autograd.Function):
    """out (B, K) = pairs(x)^T (B, P) @ weight (P, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        out = x.new_empty(len(x), weight.shape[1])
        for rows, _, pairs_PC in _Blocks(x, len(weight)):
            torch.mm(pairs_PC.t(), weight, out=out[rows])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient_BK,) = gradients
        x, weight = ctx.saved_tensors
        weight_gradient, x_gradient = torch.zeros_like(weight), torch.empty_like(x)
        for rows, x_dC, pairs_PC in _Blocks(x, len(weight)):
            gradient_CK = gradient_BK[rows]
            weight_gradient.addmm_(pairs_PC, gradient_CK)
            torch.mm(weight, gradient_CK.t(), out=pairs_PC)  # now the gradient of each pair
            gradient_dC = torch.zeros_like(x_dC)
            for i, block in enumerate(_of_each_i(pairs_PC, len(x_dC))):
                gradient_dC[i:].addcmul_(block, x_dC[i])
                gradient_dC[i] += block.mul_(x_dC[i:]).sum(dim=0)  # x_i appears twice in x_i x_i
            x_gradient[rows] = gradient_dC.t()
        return x_gradient, weight_gradient


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
