r"""The sum over rows of a gate: batch norm, activation, dropout and the sum, in blocks that stay in the cache.

S streams, K passes (S is K, or 1 where the passes still share their input), B batch, n = H * R * g features in the
order (head, row, position). The input z (S, B, n) is the largest tensor of a network that holds this layer, and all
that follows it is elementwise. Done step by step, each step reads and writes all of z. Here one block of samples
goes through all steps, forwards and backwards, and only z itself is kept: the backward pass computes a block's
steps again and lets autograd differentiate them. For a ReLU gate with dropout on a CPU, compiled loops do the same
where numba is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ctrlib.errors import DataError
from ctrlib.layers.compiled import loops
from ctrlib.layers.dropout import kept, kept_from, kept_scale
from ctrlib.layers.precision import full_products, widened

BLOCK_VALUES = 1 << 20  # values of one block on a CPU: 4 MB in float32


@dataclass(frozen=True)
class Gate:
    """What follows z. rows: R. heads: H. norm: batch norm over the n features, or None. dropped_levels: dropout's."""

    heads: int
    rows: int
    norm: nn.BatchNorm1d | None
    activation: nn.Module
    dropped_levels: int

    @property
    def numbers(self) -> tuple[int, float, int, int]:
        """What the compiled loops take: the threshold on words, the scale of kept values, heads, rows."""
        return kept_from(self.dropped_levels), kept_scale(self.dropped_levels), self.heads, self.rows

    def summed(self, u_SCn: Tensor, words_KCn: Tensor | None) -> Tensor:
        """Return the sum over rows of the activated and dropped gate, (K, C, H * g), from normalised u."""
        a = self.activation(u_SCn)
        if words_KCn is not None:
            a = a * kept(words_KCn, self.dropped_levels, a.dtype)
        total: Tensor = a.unflatten(-1, (self.heads, self.rows, -1)).sum(dim=-2).flatten(-2)
        return total if words_KCn is None else total.mul_(kept_scale(self.dropped_levels))

    def gradient(self, gradient_KCd: Tensor, words_KCn: Tensor | None, streams: int) -> Tensor:
        """Return the gradient of the activated gate, (S, C, n), from that of the sum."""
        if words_KCn is None:
            one_row = gradient_KCd.unflatten(-1, (self.heads, 1, -1))
            all_rows: Tensor = one_row.expand(-1, -1, -1, self.rows, -1).flatten(-3)
            return all_rows
        one_row = (gradient_KCd * kept_scale(self.dropped_levels)).unflatten(-1, (self.heads, 1, -1))
        mask = kept(words_KCn, self.dropped_levels, one_row.dtype)
        mask.unflatten(-1, (self.heads, self.rows, -1)).mul_(one_row)
        return mask if len(mask) == streams else mask.sum(dim=0, keepdim=True)

    def affine(self, mean_Sn: Tensor, variance_Sn: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and shift (S, n) of the batch norm: u = z * scale + shift."""
        assert self.norm is not None
        scale = weight * torch.rsqrt(variance_Sn + self.norm.eps)
        return scale, bias - mean_Sn * scale


def gated_row_sum(z_SBn: Tensor, gate: Gate, words_KBn: Tensor | None, passes: int) -> Tensor:
    """Return the sum over rows of Drop(activation(BN(z))), (K, B, H * g).

    words_KBn: random 16-bit words for the dropout, None without one. While the norm trains, each pass is normalised
    by its own statistics and moves the running ones, as K separate passes would. Raises `DataError` for a training
    batch of one sample, whose variance is undefined.
    """
    with full_products(z_SBn):
        return _gated_row_sum(widened(z_SBn), gate, words_KBn, passes)


def _gated_row_sum(z_SBn: Tensor, gate: Gate, words_KBn: Tensor | None, passes: int) -> Tensor:
    norm, weights = gate.norm, list(gate.activation.parameters())
    if norm is None:
        out = _RowSum.apply(z_SBn, gate, words_KBn, None, None, None, None, *weights)  # type: ignore[no-untyped-call]
    else:
        if norm.training:
            mean, variance = batch_statistics(z_SBn.detach())
            _move_running_statistics(norm, mean, variance, z_SBn.shape[1], passes)
        else:
            mean, variance = (getattr(norm, name).expand(len(z_SBn), -1) for name in ("running_mean", "running_var"))
        out = _RowSum.apply(  # type: ignore[no-untyped-call]
            z_SBn, gate, words_KBn, norm.weight, norm.bias, mean, variance, *weights
        )
    return out if len(out) == passes else out.expand(passes, -1, -1)  # type: ignore[no-any-return]


class _RowSum(torch.autograd.Function):
    """The layer, with batch statistics as functions of z while the norm trains."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        gate: Gate,
        words: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor | None,
        variance: Tensor | None,
        *activation_weights: Tensor,
    ) -> Tensor:
        streams, batch, features = z.shape
        affine = _affine(gate, weight, bias, mean, variance)
        compiled = compiled_loops(z, gate, words)
        if compiled:
            out: Tensor = compiled.row_sum(z, *_affine_or_identity(affine, z), words, *gate.numbers)
        else:
            out = z.new_empty(streams if words is None else len(words), batch, features // gate.rows)
            for block in _blocks(z):
                out[:, block] = gate.summed(_normalised(z[:, block], affine), _words(words, block))
        ctx.gate, ctx.activation_weights = gate, activation_weights
        ctx.save_for_backward(z, words, weight, bias, mean, variance)
        ctx.from_batch = gate.norm is not None and gate.norm.training
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        z, words, weight, bias, mean, variance = ctx.saved_tensors
        gate: Gate = ctx.gate
        affine = _affine(gate, weight, bias, mean, variance)
        compiled = compiled_loops(z, gate, words)
        if compiled:
            scale_and_shift = _affine_or_identity(affine, z)
            z_gradient, *by_affine = compiled.row_sum_gradient(gradient, z, *scale_and_shift, words, *gate.numbers)
            by_weights: list[Tensor] = []
        else:
            z_gradient, by_affine, by_weights = _gradient_in_blocks(ctx, gradient, z, words, affine)
        by_norm: list[Tensor | None] = [None, None]
        if affine is not None:
            with torch.enable_grad():
                leaves = [part.detach().requires_grad_() for part in (weight, bias, mean, variance)]
                found = torch.autograd.grad(gate.affine(leaves[2], leaves[3], *leaves[:2]), leaves, by_affine)
            by_norm = list(found[:2])
            if ctx.from_batch:
                _add_through_statistics(z_gradient, z, mean, *found[2:])
        return z_gradient, None, None, *by_norm, None, None, *by_weights


def _gradient_in_blocks(
    ctx: Any, gradient: Tensor, z: Tensor, words: Tensor | None, affine: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return the gradients of z, of scale and shift, and of the activation's weights."""
    gate: Gate = ctx.gate
    z_gradient = torch.empty_like(z)
    by_affine = [torch.zeros_like(part) for part in affine or ()]
    by_weights = [torch.zeros_like(value) for value in ctx.activation_weights]
    for block in _blocks(z):
        by_a = gate.gradient(gradient[:, block], _words(words, block), len(z))
        with torch.enable_grad():
            u = _normalised(z[:, block], affine).requires_grad_()
            found = torch.autograd.grad(gate.activation(u), [u, *ctx.activation_weights], by_a)
        by_u = found[0]
        for total, part in zip(by_weights, found[1:], strict=True):
            total += part
        if affine is None:
            z_gradient[:, block] = by_u
            continue
        by_affine[0] += torch.linalg.vecdot(by_u, z[:, block], dim=1)
        by_affine[1] += (by_u.new_ones(1, by_u.shape[1]) @ by_u)[:, 0]
        torch.mul(by_u, affine[0][:, None], out=z_gradient[:, block])
    return z_gradient, by_affine, by_weights


def compiled_loops(z: Tensor, gate: Gate, words: Tensor | None) -> ModuleType | None:
    """Return `ctrlib.layers.row_gate_cpu` where it serves: on a CPU, for a ReLU gate with dropout, with numba."""
    if z.is_cuda or words is None or not isinstance(gate.activation, nn.ReLU):
        return None
    return _numba_loops()


def _numba_loops() -> ModuleType | None:
    return loops("row_gate_cpu")


def _affine_or_identity(affine: tuple[Tensor, Tensor] | None, z: Tensor) -> tuple[Tensor, Tensor]:
    if affine is not None:
        return affine
    ones = z.new_ones(z.shape[0], z.shape[2])
    return ones, torch.zeros_like(ones)


def _affine(
    gate: Gate, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None, variance: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    if weight is None or bias is None or mean is None or variance is None:
        return None
    return gate.affine(mean, variance, weight, bias)


def _normalised(z_SCn: Tensor, affine: tuple[Tensor, Tensor] | None) -> Tensor:
    z_SCn = z_SCn.detach()
    return z_SCn if affine is None else torch.addcmul(affine[1][:, None], z_SCn, affine[0][:, None])


def _words(words_KBn: Tensor | None, block: slice) -> Tensor | None:
    return None if words_KBn is None else words_KBn[:, block]


def _blocks(z_SBn: Tensor) -> Iterator[slice]:
    """Yield slices of the batch: cache-sized on a CPU, everything at once on a GPU."""
    streams, batch, features = z_SBn.shape
    size = batch if z_SBn.is_cuda else max(1, BLOCK_VALUES // (streams * features))
    for start in range(0, batch, size):
        yield slice(start, min(start + size, batch))


def batch_statistics(z_SBn: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance over the batch, each (S, n). Raises `DataError` for fewer than two samples."""
    batch = z_SBn.shape[1]
    if batch < 2:
        raise DataError("Batch norm needs at least two samples of a training batch. Raise batch_size.")
    if z_SBn.is_cuda:
        variance, mean = torch.var_mean(z_SBn, dim=1, correction=0)
        return mean, variance
    # Sums as products with a vector of ones: several times faster on a CPU than the framework's reduction.
    ones = z_SBn.new_ones(len(z_SBn), 1, batch)
    mean_S1n = (ones @ z_SBn) / batch
    if compiled := _numba_loops():
        return mean_S1n[:, 0], compiled.squared_deviations(z_SBn, mean_S1n[:, 0]) / batch
    squares_S1n = torch.zeros_like(mean_S1n)
    for block in _blocks(z_SBn):
        squares_S1n += ones[..., block] @ (z_SBn[:, block] - mean_S1n).square_()
    return mean_S1n[:, 0], squares_S1n[:, 0] / batch


def _add_through_statistics(z_gradient: Tensor, z: Tensor, mean: Tensor, by_mean: Tensor, by_variance: Tensor) -> None:
    """Add to the gradient of z (S, B, n) what reaches it through the batch's mean and variance."""
    batch = z.shape[1]
    slope = by_variance * (2.0 / batch)
    constant = by_mean / batch - mean * slope
    if not z.is_cuda and (compiled := _numba_loops()):
        compiled.add_affine(z_gradient, z, slope, constant)
        return
    for block in _blocks(z):
        z_gradient[:, block].addcmul_(z[:, block], slope[:, None]).add_(constant[:, None])


@torch.no_grad()
def _move_running_statistics(
    norm: nn.BatchNorm1d, mean_Sn: Tensor, variance_Sn: Tensor, batch: int, passes: int
) -> None:
    """Move the running statistics once for every pass; the variance that they follow is the unbiased one."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert norm.momentum is not None
    for k in range(passes):
        stream = k if len(mean_Sn) > 1 else 0
        norm.running_mean.lerp_(mean_Sn[stream], norm.momentum)
        norm.running_var.lerp_(variance_Sn[stream] * (batch / (batch - 1)), norm.momentum)
    norm.num_batches_tracked += passes
