"""Dropout whose mask comes straight from random words.

`torch.nn.functional.dropout` draws one uniform number for each position, and on a CPU these draws cost more
than the products around them. Here one 64-bit word of the same generator serves four positions with 16 bits
each. The rate is therefore a multiple of 1/65536 (0.1 becomes 6554/65536 = 0.100006), and kept values are
scaled by the reciprocal of exactly that keep rate, so the expectation is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ctrlib.errors import SettingError

LEVELS = 1 << 16  # a position's 16 bits are one of this many equally likely values
FULL_RANGE = -(1 << 63)  # random_() alone never sets the sign bit: a quarter of the positions would differ


def random_words(shape: Sequence[int], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Return independent uniform 16-bit integers of any shape."""
    numel = math.prod(shape)
    words = torch.empty((numel + 3) // 4, dtype=torch.int64, device=device)
    words.random_(FULL_RANGE, None, generator=generator)  # type: ignore[call-overload]
    return words.view(torch.int16)[:numel].view(shape)


def kept(words: Tensor, dropped_levels: int, dtype: torch.dtype) -> Tensor:
    """Return 1 where a position is kept and 0 where it is dropped, as numbers of `dtype`."""
    mask = torch.empty(words.shape, dtype=dtype, device=words.device)
    return torch.ge(words, kept_from(dropped_levels), out=mask)  # written in one pass


def kept_from(dropped_levels: int) -> int:
    """Return the smallest 16-bit word of a position that is kept."""
    return dropped_levels - LEVELS // 2


def kept_scale(dropped_levels: int) -> float:
    """Return the factor on kept values that leaves the expectation as it was."""
    return LEVELS / (LEVELS - dropped_levels)


class _DropBy16Bits(torch.autograd.Function):
    """Multiply by a random 0 or 1/keep; the same factor multiplies the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped_levels: int, generator: torch.Generator | None) -> Tensor:
        mask = kept(random_words(x.shape, x.device, generator), dropped_levels, x.dtype)
        ctx.save_for_backward(mask)
        ctx.scale = kept_scale(dropped_levels)
        return _scaled_product(x, mask, ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return _scaled_product(gradients[0], mask, ctx.scale), None, None


def _scaled_product(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """Return scale * x * y in one pass over memory."""
    return torch.addcmul(x.new_zeros(()), x, y, value=scale)


class Dropout(nn.Module):
    """Set each entry to zero with probability `rate` while training, and scale the others to keep the mean.

    `generator` is the stream that masks are drawn from; `fit` sets it, so that the masks depend on the run's
    seed alone. `None` means PyTorch's default stream. Raises `SettingError` for a rate outside [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise SettingError(f"Dropout rate {rate} is outside [0, 1). Give a probability such as 0.1.")
        self.rate = rate
        self.dropped_levels = round(rate * LEVELS)
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` of any shape with dropped entries while training, `x` itself otherwise."""
        if not self.training or self.dropped_levels == 0:
            return x
        return _DropBy16Bits.apply(x, self.dropped_levels, self.generator)  # type: ignore[no-any-return, no-untyped-call]

    def words(self, shape: Sequence[int], device: torch.device) -> Tensor | None:
        """Return random words for a mask of that shape, or None where nothing is dropped."""
        if not self.training or self.dropped_levels == 0:
            return None
        return random_words(shape, device, self.generator)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
