r"""QNN-alpha: layers of the multi-head Khatri-Rao product and one affine map to the logit.

Li, Zhang, Zhang, Sang, Zhu, "Revisiting Feature Interactions from the Perspective of Quadratic Neural Networks for
Click-through Rate Prediction", KDD 2025.

$$x_0 = \mathrm{flatten}(E), \qquad x_{l+1} = \mathrm{Drop}(\mathrm{MHKRP}(x_l)), \qquad z = w^\top x_L + b$$

Parameters, in the modes `released` and `aligned`: $VD + L\,[R(d^2 + d) + 2Rd\,\mathbb 1_{BN}] + d + 1$.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.khatri_rao import MultiHeadKhatriRao
from ctrlib.layers import Dropout, reset_linear_maps
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
    """Logits (B,). Several passes share one look-up and the first layer's map."""

    settings: QNNAlphaSettings

    def __init__(self, schema: Schema, settings: QNNAlphaSettings) -> None:
        super().__init__(schema, settings)
        self.trunk = QNNTrunk(schema.num_fields, settings)
        self.head = nn.Linear(self.width, 1)
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
