r"""The multi-head Khatri-Rao product, QNN-alpha's layer, in three modes.

With one row vector on the left and sum pooling, the Khatri-Rao product of $x$ and the rows $g_1 .. g_R$ is
$\sum_r x \odot g_r = x \odot \sum_r g_r$ (QNN-alpha paper, Eq. 7 to 9). The B x H x R x d product is therefore never
formed: the layer sums the gate over its rows and multiplies once.

S streams, K passes, B batch, F fields, D embedding width, d = F * D, H heads, R rows, g = d / H. Coordinates of x are
field-major, (field, position). A head holds the slice of D / H positions of every field; $\Pi$ puts coordinates in
head-major order, (head, field, position within the slice).

| mode | maps from x to the gate's rows | product added to x | weights |
|---|---|---|---|
| `written` | one for each head, on its own slice | $\Pi^{-1}(\Pi x \odot \sum_r g_r)$ | $R(d^2/H + d)$ |
| `released` | one full map for all heads | $\Pi x \odot \sum_r g_r$ | $R(d^2 + d)$ |
| `aligned` | one full map for all heads | $\Pi^{-1}(\Pi x \odot \sum_r g_r)$ | $R(d^2 + d)$ |

`written` is the paper's text (section 3.2, Eq. 10), `released` the authors' code: it adds the head-major product to
the field-major input, which is the same only for H = 1. `aligned` keeps the released map and puts the product back
in order. Batch norm adds $2Rd$ weights in every mode.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctrlib.errors import SettingError, unknown
from ctrlib.layers import Dropout, activation
from ctrlib.layers.row_gate import Gate, gated_row_sum

MODES = ("written", "released", "aligned")


class MultiHeadKhatriRao(nn.Module):
    """x (S, B, d) -> (K, B, d), where S is K, or 1 when the K passes share their input.

    dropout: rate on the gate, after the activation. product: whether the gate's row sum multiplies x; without, it is
    added as it is. residual: whether x is added. Raises `SettingError` for an unknown mode, fewer than one row or
    head, or heads that do not divide the embedding width.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        rows: int,
        heads: int = 1,
        mode: str = "released",
        mid_activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        product: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise unknown("mode", mode, MODES)
        if rows < 1 or heads < 1:
            raise SettingError(f"rows and heads must be at least 1, got {rows} and {heads}.")
        if embedding_dim % heads:
            raise SettingError(f"{heads} heads do not divide the embedding width {embedding_dim}. Change heads.")
        self.num_fields, self.embedding_dim = num_fields, embedding_dim
        self.rows, self.heads, self.mode = rows, heads, mode
        self.product, self.residual = product, residual
        width = num_fields * embedding_dim
        if mode == "written":
            self.maps = nn.ModuleList(nn.Linear(width // heads, rows * width // heads) for _ in range(heads))
        else:
            self.map = nn.Linear(width, rows * width)
        self.norm = nn.BatchNorm1d(rows * width) if batch_norm else None
        self.mid_activation = activation(mid_activation)
        self.dropout = Dropout(dropout)

    def forward(self, x_SBd: Tensor, passes: int = 1) -> Tensor:
        head_major = self.to_head_major(x_SBd)
        z_SBn = self._gate_inputs(x_SBd, head_major)
        words_KBn = self.dropout.words((passes, *z_SBn.shape[1:]), z_SBn.device)
        gate = Gate(self.heads, self.rows, self.norm, self.mid_activation, self.dropout.dropped_levels)
        added_KBd = gated_row_sum(z_SBn, gate, words_KBn, passes)
        if self.product:
            added_KBd = head_major * added_KBd
        if self.mode != "released":
            added_KBd = self.to_field_major(added_KBd)
        return x_SBd + added_KBd if self.residual else added_KBd

    def _gate_inputs(self, x_SBd: Tensor, head_major: Tensor) -> Tensor:
        """Return the gate before norm and activation, (S, B, H * R * g), in the order (head, row, position)."""
        if self.mode != "written":
            z: Tensor = self.map(x_SBd)
            return z
        slices = head_major.chunk(self.heads, dim=-1)
        return torch.cat([one(part) for one, part in zip(self.maps, slices, strict=True)], dim=-1)

    def to_head_major(self, x: Tensor) -> Tensor:
        """Reorder the last axis (*, d) from (field, position) to (head, field, position within the head's slice)."""
        if self.heads == 1:
            return x
        ordered: Tensor = x.unflatten(-1, (self.num_fields, self.heads, -1)).transpose(-3, -2).flatten(-3)
        return ordered

    def to_field_major(self, x: Tensor) -> Tensor:
        """Undo `to_head_major`."""
        if self.heads == 1:
            return x
        ordered: Tensor = x.unflatten(-1, (self.heads, self.num_fields, -1)).transpose(-3, -2).flatten(-3)
        return ordered
