"""Two maps with a ReLU and dropout between them, for many rows and a wide hidden layer.

N rows, D width, h hidden width. Between the maps lie N * h values. On a CPU they would travel to memory and back a
dozen times a step; here a block of rows goes through both maps while it is in the cache, and the backward pass computes
the hidden values again. A GPU takes all rows as one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ctrlib.layers.dropout import Dropout, kept, kept_scale
from ctrlib.layers.precision import full_products, widened

BLOCK_ROWS = 2048


class FeedForward(nn.Module):
    r"""x (*, D) -> (*, D): $W_2 \mathrm{Drop}(\mathrm{ReLU}(W_1 x + b_1)) + b_2$. Parameters: $2Dh + h + D$."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        rows = widened(x.flatten(0, -2))
        words = self.dropout.words((len(rows), self.up.out_features), x.device)
        maps = (self.up.weight, self.up.bias, self.down.weight, self.down.bias)
        with full_products(x):
            out: Tensor = _TwoMaps.apply(rows, *maps, words, self.dropout.dropped_levels)  # type: ignore[no-untyped-call]
        return out.view(x.shape)


class _TwoMaps(torch.autograd.Function):
    """Words are those of the hidden layer's mask, or None.

    A product with D columns, D small, is slow on a CPU: its transpose is computed instead, which has D rows.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, words: Tensor | None, dropped: int
    ) -> Tensor:
        ctx.save_for_backward(x, w1, b1, w2, words)
        ctx.dropped = dropped
        scaled = _scaled(w2, words, dropped)
        out = x.new_empty(len(x), len(w2))
        for block in _blocks(x):
            hidden = _hidden(x[block], w1, b1, None if words is None else words[block], dropped)
            torch.add((scaled @ hidden.t()).t(), b2, out=out[block])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, w1, b1, w2, words = ctx.saved_tensors
        scaled = _scaled(w2, words, ctx.dropped)
        by_x, by_w1, by_b1, by_w2 = (
            torch.empty_like(x),
            torch.zeros_like(w1),
            torch.zeros_like(b1),
            torch.zeros_like(w2),
        )
        for block in _blocks(x):
            rows, g = x[block], gradient[block]
            hidden = _hidden(rows, w1, b1, None if words is None else words[block], ctx.dropped)
            by_w2 += g.t() @ hidden
            by_hidden = torch.ops.aten.threshold_backward(g @ scaled, hidden, 0)  # 0 where closed or dropped
            by_w1 += (rows.t() @ by_hidden).t()
            by_b1 += by_hidden.sum(dim=0)
            by_x[block] = (w1.t() @ by_hidden.t()).t()
        return by_x, by_w1, by_b1, _scaled(by_w2, words, ctx.dropped), gradient.sum(dim=0), None, None


def _blocks(x: Tensor) -> Iterator[slice]:
    rows = max(1, len(x)) if x.is_cuda else BLOCK_ROWS
    return (slice(start, start + rows) for start in range(0, len(x), rows))


def _hidden(x: Tensor, w1: Tensor, b1: Tensor, words: Tensor | None, dropped: int) -> Tensor:
    """Return the hidden values of a block of rows, dropped ones zero and the others not yet scaled."""
    hidden = torch.addmm(b1, x, w1.t()).relu_()
    return hidden if words is None else hidden.mul_(kept(words, dropped, x.dtype))


def _scaled(weight: Tensor, words: Tensor | None, dropped: int) -> Tensor:
    """Return the weight times the scale of kept values."""
    return weight if words is None else weight * kept_scale(dropped)
