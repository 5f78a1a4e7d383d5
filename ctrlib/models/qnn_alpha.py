"""QNN-alpha: layers of the multi-head Khatri-Rao product and one affine map to the logit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.khatri_rao import MultiHeadKhatriRao
from ctrlib.layers import Dropout, LogitMap, reset_linear_maps
from ctrlib.models.base import CTRModel, ModelSettings


@dataclass(frozen=True)
class QNNAlphaSettings(ModelSettings):
    """layers: L. rows: R. heads: H. mode, product: see `ctrlib.khatri_rao`. mid_activation: of the gate.

    dropout is one rate for two places: on the gate after its activation, and on each layer's output with the
    residual, so also before the head. The loss is by default the paper's, over two passes.
    """

    loss: str = "self-ensemble"
    passes: int = 2
    layers: int = 2
    rows: int = 4
    heads: int = 1
    mode: str = "released"
    mid_activation: str = "relu"
    batch_norm: bool = True
    product: bool = True
    residual: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 1:
            raise SettingError(f"layers is {self.layers}; a network needs at least 1.")


class QNNTrunk(nn.Module):
    """x (B, d) -> x_L (K, B, d) for K passes, which part at the first dropout, after the first map."""

    def __init__(self, num_fields: int, settings: QNNAlphaSettings) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MultiHeadKhatriRao(
                num_fields,
                settings.embedding_dim,
                rows=settings.rows,
                heads=settings.heads,
                mode=settings.mode,
                mid_activation=settings.mid_activation,
                batch_norm=settings.batch_norm,
                dropout=settings.dropout,
                product=settings.product,
                residual=settings.residual,
            )
            for _ in range(settings.layers)
        )
        self.dropout = Dropout(settings.dropout)

    def forward(self, x_Bd: Tensor, passes: int = 1) -> Tensor:
        x = x_Bd[None]
        for layer in self.layers:
            x = self.dropout(layer(x, passes))
        return x


class QNNAlpha(CTRModel):
    r"""Logits (B,); `ctrlib.khatri_rao` has the layer's three modes.

    $$x_{l+1} = \mathrm{Drop}\Big(x_l + x_l \odot \sum_{r=1}^{R}
      \mathrm{Drop}\big(\rho(\mathrm{BN}(W_r x_l + b_r))\big)\Big)$$
    $$x_0 = \mathrm{flatten}(E),\qquad z = w^\top x_L + b$$

    That is one head; with more, the product is taken head by head. In training the loss is over K passes, which share
    one look-up and the first layer's map and part at the first dropout.

    Structure: ids -> embedding -> {K passes: {L layers: (pass | (pass | gate rows [R maps, batch norm, ReLU] ->
    row sum) -> product) -> sum -> dropout} -> linear map} -> logit -> self-ensemble loss

    Parameters: $VD + L\,[R(d^2 + d) + 2Rd\,\mathbb 1_{BN}] + d + 1$ in the modes `released` and `aligned`; in `written`
    the maps of H heads have $R(d^2/H + d)$.

    Source: Li, Zhang, Zhang, Sang, Zhu, "Revisiting Feature Interactions from the Perspective of Quadratic Neural
    Networks for Click-through Rate Prediction", KDD 2025.

    Paper and code: The paper gives every head a map of its own slice. The authors' code has one full map for all heads
    and adds the product in the order of the heads to an input in the order of the fields; `aligned` keeps its map and
    puts the product back in order. With one head the three are the same.
    """

    settings: QNNAlphaSettings

    def __init__(self, schema: Schema, settings: QNNAlphaSettings) -> None:
        super().__init__(schema, settings)
        self.trunk = QNNTrunk(schema.num_fields, settings)
        self.head = LogitMap(self.width)
        reset_linear_maps(self)

    def interact_states(self, e_BFD: Tensor, passes: int) -> tuple[Tensor, Tensor]:
        states_KBd: Tensor = self.trunk(e_BFD.flatten(1), passes)
        return torch.squeeze(self.head(states_KBd), -1), states_KBd

    def interact_passes(self, e_BFD: Tensor, passes: int) -> Tensor:
        return self.interact_states(e_BFD, passes)[0]

    def interact(self, e_BFD: Tensor) -> Tensor:
        return self.interact_passes(e_BFD, 1)[0]


def build(name: str, schema: Schema, settings: QNNAlphaSettings) -> QNNAlpha:
    """Return QNN-alpha."""
    return QNNAlpha(schema, settings)
