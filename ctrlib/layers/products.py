"""Elementwise products whose backward pass touches memory no more often than it must."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _AddProduct(torch.autograd.Function):
    """c + a * b for three tensors of one shape."""

    @staticmethod
    def forward(ctx: Any, c: Tensor, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return torch.addcmul(c, a, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        (gradient,) = gradients
        a, b = ctx.saved_tensors
        _, need_a, need_b = ctx.needs_input_grad
        return gradient, gradient * b if need_a else None, gradient * a if need_b else None


def add_product(c: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return c + a * b in one pass over memory, with broadcasting.

    For equal shapes the backward pass is one product for each factor. The framework's own `addcmul` first
    multiplies each factor by the scale 1, two passes more; the bits are the same.
    """
    if a.shape == b.shape == c.shape:
        return _AddProduct.apply(c, a, b)  # type: ignore[no-any-return, no-untyped-call]
    return torch.addcmul(c, a, b)


class _ResidualProduct(torch.autograd.Function):
    """x + x * (W x + b); the three parts of the gradient of x are added up in one tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        h = torch.addmm(bias, x, weight.t())
        ctx.save_for_backward(x, h, weight)
        return torch.addcmul(x, x, h)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, h, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        by_h = gradient * x
        by_x = None
        if need_x:
            by_x = (gradient * h).add_(gradient)
            torch.addmm(by_x, by_h, weight, out=by_x)
        return by_x, by_h.t() @ x if need_weight else None, by_h.sum(0) if need_bias else None


def residual_product(x: Tensor, linear: Callable[[Tensor], Tensor]) -> Tensor:
    """Return x + x * linear(x) for x (B, d), the layer of T9.

    For an affine map the backward pass touches memory less often than the framework's own; the bits are the same as
    long as the library of matrix products adds up a row of W at once, as it does for d up to a few hundred.
    """
    if type(linear) is not nn.Linear or linear.bias is None or x.dim() != 2 or linear.out_features != x.shape[1]:
        return add_product(x, x, linear(x))
    if torch.is_autocast_enabled(x.device.type):
        return add_product(x, x, linear(x))
    return _ResidualProduct.apply(x, linear.weight, linear.bias)  # type: ignore[no-any-return, no-untyped-call]
