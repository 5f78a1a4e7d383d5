"""MaskNet: blocks whose input is weighed, entry by entry, by a mask computed from the embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import Dropout, activation, reset_linear_maps
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import DNNSettings

STRUCTURES = ("parallel", "serial")


@dataclass(frozen=True)
class MaskNetSettings(DNNSettings):
    """structure: "parallel" puts the blocks side by side below an MLP, "serial" one behind the other.

    hidden_units: widths of the MLP; serial, the widths of the blocks. blocks, block_width: N and n, parallel only.
    mask_ratio: inner width of a mask's two maps as a multiple of the mask's width, rounded down.
    field_norm: layer norm of each field's vector. layer_norm: in each block. batch_norm: of the MLP, parallel only.
    dropout and activation: in blocks and MLP.
    """

    structure: str = "parallel"
    blocks: int = 3
    block_width: int = 50
    mask_ratio: float = 2.0
    field_norm: bool = True
    layer_norm: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.structure not in STRUCTURES:
            raise unknown("structure", self.structure, STRUCTURES)
        if self.blocks < 1 or self.block_width < 1:
            raise SettingError("blocks and block_width must be at least 1.")
        if self.mask_ratio <= 0:
            raise SettingError(f"mask_ratio is {self.mask_ratio}; it multiplies a width, so it must be above 0.")
        if self.structure == "serial" and not self.hidden_units:
            raise SettingError("hidden_units is empty; a serial MaskNet has one block for each of them, at least 1.")
        if self.structure == "serial" and self.batch_norm:
            raise SettingError("A serial MaskNet has no MLP for a batch norm: set batch_norm to False.")


class FieldNorm(nn.Module):
    """Field vectors (B, F, D) -> (B, F, D): layer norm over D, with weights of each field's own. Parameters: 2FD."""

    def __init__(self, num_fields: int, embedding_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_fields, embedding_dim))
        self.bias = nn.Parameter(torch.zeros(num_fields, embedding_dim))

    def forward(self, e_BFD: Tensor) -> Tensor:
        return torch.addcmul(self.bias, F.layer_norm(e_BFD, e_BFD.shape[2:]), self.weight)


class MaskBlock(nn.Module):
    r"""x (B, d) and v (B, h) -> (B, o).

    $$M = W_2 \mathrm{ReLU}(W_1 x + b_1) + b_2,\qquad
      v' = \mathrm{Drop}\big(\phi(\mathrm{LN}(W (M \odot v)))\big)$$

    Parameters, with $q = \lfloor rh \rfloor$ rows of $W_1$: $(d + 1) q + (q + 1) h + ho$, with layer norm $2o$ more.
    Raises `SettingError` when q is 0.
    """

    def __init__(self, in_width: int, width: int, out_width: int, settings: MaskNetSettings) -> None:
        super().__init__()
        inner = int(settings.mask_ratio * width)
        if inner < 1:
            raise SettingError(f"mask_ratio {settings.mask_ratio} of a width of {width} is less than 1: raise it.")
        self.up, self.down = nn.Linear(in_width, inner), nn.Linear(inner, width)
        self.linear = nn.Linear(width, out_width, bias=False)
        self.norm = nn.LayerNorm(out_width) if settings.layer_norm else nn.Identity()
        self.activation = activation(settings.activation)
        self.dropout = Dropout(settings.dropout)

    def forward(self, x_Bd: Tensor, v_Bh: Tensor) -> Tensor:
        mask_Bh = self.down(torch.relu(self.up(x_Bd)))
        return self.dropout(self.activation(self.norm(self.linear(mask_Bh * v_Bh))))  # type: ignore[no-any-return]


class MaskNet(CTRModel):
    r"""Logits (B,), with blocks $\beta_k(x, v)$ that take their mask from the flattened embedding $x$.

    $v_0$ is $x$, with `field_norm` the field vectors after their layer norms, end to end.
    $$z_{parallel} = \mathrm{MLP}\big(\beta_1(x, v_0) \,\|\, \dots \,\|\, \beta_N(x, v_0)\big),\qquad
      z_{serial} = w^\top v_L + b,\quad v_k = \beta_k(x, v_{k-1})$$

    Structure: ids -> embedding -> {N blocks: (field norm | mask [two maps]) -> product -> linear map -> layer norm
    [ReLU]} -> concatenation -> MLP -> logit

    Parameters: $VD$ and those of the blocks, with field norm $2d$ more; parallel the MLP's $\sum_l (h_{l-1} + 1) h_l +
    h_L + 1$ with $h_0 = Nn$, serial $h_L + 1$.

    Source: Wang, She, Zhang, "MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking Models by Instance-Guided
    Mask", DLP-KDD 2021.

    Paper and code: In the paper every block has a layer norm; that it and the field norm can be left out comes from the
    public code, which the open benchmark mostly runs without the field norm. Inside a mask the activation is always
    ReLU, as in both. Blocks and ratio are by default those of the benchmark on Frappe.
    """

    settings: MaskNetSettings

    def __init__(self, schema: Schema, settings: MaskNetSettings) -> None:
        super().__init__(schema, settings)
        self.field_norm = FieldNorm(schema.num_fields, settings.embedding_dim) if settings.field_norm else None
        if settings.structure == "parallel":
            shapes = [(self.width, settings.block_width)] * settings.blocks
            width, units = settings.blocks * settings.block_width, settings.hidden_units
        else:
            shapes = list(zip([self.width, *settings.hidden_units], settings.hidden_units, strict=False))
            width, units = settings.hidden_units[-1], ()
        self.blocks = nn.ModuleList(MaskBlock(self.width, before, after, settings) for before, after in shapes)
        self.mlp = settings.mlp_of(width, units, head=True)
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        x = e_BFD.flatten(1)
        state = x if self.field_norm is None else self.field_norm(e_BFD).flatten(1)
        if self.settings.structure == "parallel":
            state = torch.cat([block(x, state) for block in self.blocks], dim=1)
        else:
            for block in self.blocks:
                state = block(x, state)
        logits: Tensor = self.mlp(state)
        return logits


def build(name: str, schema: Schema, settings: MaskNetSettings) -> MaskNet:
    """Return a MaskNet."""
    return MaskNet(schema, settings)
