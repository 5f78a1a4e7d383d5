"""Where a run's matrix products are in bfloat16, and where they may not be.

With `Protocol.precision` "bf16" a step and an evaluation run under PyTorch's autocast: matrix products take factors
rounded to 8 significant bits, add up in float32, and round the result. What follows elementwise, such as a ReLU, has
the precision of its input. Weights, optimiser, batch statistics, logits and loss stay in float32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

PRECISIONS = ("fp32", "bf16")


def products_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which matrix products have a precision of `PRECISIONS`."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)  # the cache would outlive a recorded step


def full_products(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which products on the device of `x` keep the precision of their factors."""
    if not torch.is_autocast_enabled(x.device.type):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def widened(x: Tensor) -> Tensor:
    """Return `x` in float32 where it is in bfloat16, else as it is."""
    return x.float() if x.dtype == torch.bfloat16 else x


class LogitMap(nn.Linear):
    r"""x (*, d) -> (*, 1): $w^\top x + b$, never in bfloat16, whose 8 bits would tie the logits of many rows."""

    def __init__(self, in_features: int, *, bias: bool = True) -> None:
        super().__init__(in_features, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        with full_products(x):
            return super().forward(widened(x))
