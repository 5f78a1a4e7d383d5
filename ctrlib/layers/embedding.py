"""One embedding table for all fields.

B batch, C id columns, F fields, D embedding width, V table rows. A categorical field has one id column. A
multi-valued field has several, padded, and its vector is the mean or the sum over the ids that are not padding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ctrlib.data.schema import Schema
from ctrlib.errors import unknown
from ctrlib.layers.compiled import loops

INITIAL_STD = 1e-4  # the training protocol's
POOLINGS = ("mean", "sum")


class FieldEmbedding(nn.Module):
    """Look up ids (B, C) in a table (V, D) and return one vector for each field, (B, F, D).

    std: standard deviation of the values that `reset` draws. pooling: of a multi-valued field's vectors, "mean" or
    "sum"; any other name raises `SettingError`.
    """

    def __init__(
        self, schema: Schema, embedding_dim: int, std: float = INITIAL_STD, pooling: str = POOLINGS[0]
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise unknown("pooling", pooling, POOLINGS)
        self.schema = schema
        self.std = std
        self.pooling = pooling
        self.weight = nn.Parameter(torch.zeros(schema.table_rows, embedding_dim))

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw normal values about zero; padding rows are zero."""
        with torch.no_grad():
            self.weight.normal_(0.0, self.std, generator=generator)
            self.weight[list(self.schema.offsets)] = 0.0

    def forward(self, ids: Tensor) -> Tensor:
        e_BCD = self.rows(ids)
        if self.schema.is_flat:
            return e_BCD
        widths = [stop - start for start, stop in self.schema.columns]
        parts = zip(e_BCD.split(widths, dim=1), ids.split(widths, dim=1), self.schema.offsets, strict=True)
        return torch.stack([_pooled(*part, self.pooling) for part in parts], dim=1)  # (B, F, D)

    def rows(self, ids: Tensor) -> Tensor:
        """Return the table's rows (B, C, D). All ways give the same bits on a CPU.

        Without numba a CPU takes `index_select`: its gradient needs a third of the time of the embedding's, provided
        that the ids are 64 bits wide; for 32 bits it takes a slow path. On a GPU it adds in no fixed order, so two
        equal runs would differ.
        """
        if self.weight.is_cuda:
            return F.embedding(ids, self.weight)
        if compiled := loops("embedding_cpu"):
            return _LookUp.apply(self.weight, ids, compiled.table_gradient)  # type: ignore[no-any-return, no-untyped-call]
        return _looked_up(self.weight, ids)


class _LookUp(torch.autograd.Function):
    """The rows of a table on a CPU, whose gradient a compiled loop adds up."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, table_gradient: Callable[..., Tensor]) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows, ctx.table_gradient = len(weight), table_gradient
        return _looked_up(weight, ids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (ids,) = ctx.saved_tensors
        return ctx.table_gradient(ids, gradients[0], ctx.rows), None, None


def _looked_up(weight: Tensor, ids: Tensor) -> Tensor:
    return weight.index_select(0, ids.flatten().long()).view(*ids.shape, -1)


def _pooled(e_BMD: Tensor, ids_BM: Tensor, padding: int, pooling: str) -> Tensor:
    """Return the mean or sum (B, D) of a field's M vectors over the ids that are not padding; zero without any."""
    if e_BMD.shape[1] == 1:
        return e_BMD.squeeze(1)
    real_BM = (ids_BM != padding).to(e_BMD.dtype)
    total_BD = (e_BMD * real_BM[:, :, None]).sum(dim=1)
    return total_BD if pooling == "sum" else total_BD / real_BM.sum(dim=1, keepdim=True).clamp(min=1.0)
