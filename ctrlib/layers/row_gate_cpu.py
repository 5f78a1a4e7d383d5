"""The sum over rows of a ReLU gate on a CPU: each value of z is read once forwards and twice backwards.

Compiled by numba. Shapes and letters as in `ctrlib.layers.row_gate`. Everything runs over a range of samples, so that
several threads can share a batch. Sums over samples are taken in the arrays' own precision within a chunk and in
float64 over chunks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK = 128  # samples of a chunk
Array = NDArray[Any]
compiled = numba.njit(nogil=True, fastmath={"contract", "nsz"}, cache=True)


@compiled  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    start, stop, z, scale, shift, words, threshold, kept_scale, heads, rows, out
):
    streams, features = z.shape[0], z.shape[2]
    position = features // (heads * rows)
    for k in range(out.shape[0]):
        s = k if streams > 1 else 0
        for b in range(start, stop):
            for h in range(heads):
                total = out[k, b, h * position : (h + 1) * position]
                total[:] = 0
                for r in range(rows):
                    at = (h * rows + r) * position
                    for i in range(position):
                        u = z[s, b, at + i] * scale[s, at + i] + shift[s, at + i]
                        open_gate = not (u <= 0)  # so that a NaN goes through, as it does through a ReLU
                        total[i] += u if open_gate & (words[k, b, at + i] >= threshold) else z.dtype.type(0)
                for i in range(position):
                    total[i] *= kept_scale


@compiled  # type: ignore[untyped-decorator]
def _backward(  # type: ignore[no-untyped-def]
    start, stop, gradient, z, scale, shift, words, threshold, kept_scale, heads, rows, z_gradient, by_scale, by_shift
):
    streams, features = z.shape[0], z.shape[2]
    position = features // (heads * rows)
    shared = streams < gradient.shape[0]
    for s in range(streams):
        for first in range(start, stop, CHUNK):
            scale_sum = np.zeros(features, z.dtype)
            shift_sum = np.zeros(features, z.dtype)
            for b in range(first, min(first + CHUNK, stop)):
                row = z_gradient[s, b]
                row[:] = 0
                for k in range(gradient.shape[0] if shared else 1):
                    one = k if shared else s
                    for h in range(heads):
                        g = gradient[one, b, h * position : (h + 1) * position]
                        for r in range(rows):
                            at = (h * rows + r) * position
                            for i in range(position):
                                kept = words[one, b, at + i] >= threshold
                                row[at + i] += g[i] if kept else z.dtype.type(0)
                for j in range(features):
                    value = z[s, b, j]
                    open_gate = not (value * scale[s, j] + shift[s, j] <= 0)
                    by_u = row[j] * kept_scale if open_gate else z.dtype.type(0)
                    scale_sum[j] += by_u * value
                    shift_sum[j] += by_u
                    row[j] = by_u * scale[s, j]
            for j in range(features):
                by_scale[s, j] += scale_sum[j]
                by_shift[s, j] += shift_sum[j]


@compiled  # type: ignore[untyped-decorator]
def _squares(start, stop, z, mean, total):  # type: ignore[no-untyped-def]
    streams, features = z.shape[0], z.shape[2]
    for s in range(streams):
        for first in range(start, stop, CHUNK):
            part = np.zeros(features, z.dtype)
            for b in range(first, min(first + CHUNK, stop)):
                for j in range(features):
                    d = z[s, b, j] - mean[s, j]
                    part[j] += d * d
            for j in range(features):
                total[s, j] += part[j]


@compiled  # type: ignore[untyped-decorator]
def _add_affine(start, stop, z, slope, constant, target):  # type: ignore[no-untyped-def]
    for s in range(z.shape[0]):
        for b in range(start, stop):
            for j in range(z.shape[2]):
                target[s, b, j] += z[s, b, j] * slope[s, j] + constant[s, j]


def row_sum(
    z: Tensor, scale: Tensor, shift: Tensor, words: Tensor, threshold: int, kept_scale: float, heads: int, rows: int
) -> Tensor:
    """Return the sum over rows of the ReLU of z * scale + shift where words reach the threshold, (K, B, H * g)."""
    out = z.new_empty(len(words), z.shape[1], z.shape[2] // rows)
    arrays = _arrays(z, scale, shift, words)
    factor = out.numpy().dtype.type(kept_scale)
    _over_samples(_forward, z.shape[1], *arrays, threshold, factor, heads, rows, out.numpy())
    return out


def row_sum_gradient(
    gradient: Tensor,
    z: Tensor,
    scale: Tensor,
    shift: Tensor,
    words: Tensor,
    threshold: int,
    kept_scale: float,
    heads: int,
    rows: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of z, scale and shift."""
    z_gradient = torch.empty_like(z)
    parts = np.zeros((2, _threads(), *scale.shape))
    arrays = _arrays(gradient, z, scale, shift, words)
    factor = z_gradient.numpy().dtype.type(kept_scale)
    settings = (*arrays, threshold, factor, heads, rows, z_gradient.numpy())
    _over_samples(_backward, z.shape[1], *settings, each=(parts[0], parts[1]))
    by_scale, by_shift = torch.from_numpy(parts.sum(axis=1)).to(z.dtype)
    return z_gradient, by_scale, by_shift


def squared_deviations(z: Tensor, mean_Sn: Tensor) -> Tensor:
    """Return the sum over the batch of the squared deviations from the mean, (S, n)."""
    parts = np.zeros((_threads(), *mean_Sn.shape))
    _over_samples(_squares, z.shape[1], *_arrays(z, mean_Sn), each=(parts,))
    return torch.from_numpy(parts.sum(axis=0)).to(z.dtype)


def add_affine(target: Tensor, z: Tensor, slope_Sn: Tensor, constant_Sn: Tensor) -> None:
    """Add z * slope + constant to the target (S, B, n)."""
    _over_samples(_add_affine, z.shape[1], *_arrays(z, slope_Sn, constant_Sn), target.numpy())


def _arrays(*tensors: Tensor) -> list[Array]:
    return [np.asarray(tensor.detach().contiguous().numpy()) for tensor in tensors]


def _over_samples(kernel: Callable[..., None], batch: int, *arguments: Any, each: tuple[Array, ...] = ()) -> None:
    """Run a kernel over all samples, shared by as many threads as the framework uses.

    each: arrays whose first axis holds one part for every thread, given to the kernel after the other arguments.
    """
    threads = _threads()
    if threads == 1:
        kernel(0, batch, *arguments, *(parts[0] for parts in each))
        return
    edges = [batch * t // threads for t in range(threads + 1)]
    waiting = [
        _pool(threads).submit(kernel, edges[t], edges[t + 1], *arguments, *(parts[t] for parts in each))
        for t in range(threads)
    ]
    for one in waiting:
        one.result()


def _threads() -> int:
    return torch.get_num_threads()


def _forget_pool() -> None:
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)  # threads do not survive a fork


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="ctrlib-rows")
