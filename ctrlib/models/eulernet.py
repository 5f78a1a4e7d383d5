r"""EulerNet: field vectors as complex numbers, whose products of any order are sums of logarithms and angles.

B batch, D embedding width, n and m complex vectors before and after a layer; before the first layer n = F.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.layers import Dropout, LogitMap, reset_linear_maps
from ctrlib.models.base import CTRModel, ModelSettings
from ctrlib.models.dnn import widths

SMALLEST_SQUARE = 1e-8  # added to a squared modulus before its logarithm


@dataclass(frozen=True)
class EulerNetSettings(ModelSettings):
    """order_vectors: complex vectors of each layer's output, a tuple or a list. layer_norm: after each layer.

    dropout: of the implicit part's input. explicit_dropout: of the logarithms and angles.
    """

    order_vectors: tuple[int, ...] = (52,)
    explicit_dropout: float = 0.0
    layer_norm: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "order_vectors", widths("order_vectors", self.order_vectors))
        if not self.order_vectors:
            raise SettingError("order_vectors is empty; EulerNet needs at least one layer, such as (52,).")


class EulerLayer(nn.Module):
    r"""Real and imaginary part, (B, n, D) each -> (B, m, D) each.

    With $\lambda_j = \sqrt{r_j^2 + p_j^2 + 10^{-8}}$ and $\theta_j = \mathrm{atan2}(p_j, r_j)$, entry by entry,
    the explicit part of vector k multiplies all vectors j, each raised to a learned power $\alpha_{kj}$:
    $$\ell_k = \exp\Big(\sum_j \alpha_{kj} \ln \lambda_j + \delta_k\Big),\qquad
      \psi_k = \sum_j \alpha_{kj} \theta_j + \delta'_k$$
    $$r' = \mathrm{LN}\big(\ell \cos \psi + \mathrm{ReLU}(W r + b)\big),\qquad
      p' = \mathrm{LN}'\big(\ell \sin \psi + \mathrm{ReLU}(W p + b)\big)$$

    Parameters: $nm + (nD + 1) mD + 2mD$, with layer norm $4D$ more. $\alpha$ starts as the identity when n = m, else
    every output vector takes nearly all of its power from one random input; $\delta$ and $\delta'$ have standard
    deviation 0.01 and W is Xavier-uniform.
    """

    def __init__(self, before: int, after: int, settings: EulerNetSettings) -> None:
        super().__init__()
        dim = settings.embedding_dim
        orders = torch.eye(before) if before == after else torch.softmax(torch.randn(after, before) / 0.01, dim=1)
        self.orders = nn.Parameter(orders)
        self.log_modulus = nn.Parameter(0.01 * torch.randn(after, dim))
        self.angle = nn.Parameter(0.01 * torch.randn(after, dim))
        self.implicit = nn.Linear(before * dim, after * dim)
        self.real_norm = nn.LayerNorm(dim) if settings.layer_norm else nn.Identity()
        self.imaginary_norm = nn.LayerNorm(dim) if settings.layer_norm else nn.Identity()
        self.dropout, self.explicit_dropout = Dropout(settings.dropout), Dropout(settings.explicit_dropout)

    def reset(self) -> None:
        """Give the implicit part's map Xavier-uniform weights."""
        nn.init.xavier_uniform_(self.implicit.weight)

    def forward(self, r_BnD: Tensor, p_BnD: Tensor) -> tuple[Tensor, Tensor]:
        log_BnD = 0.5 * torch.log(r_BnD.square() + p_BnD.square() + SMALLEST_SQUARE)
        angle_BnD = torch.atan2(p_BnD, r_BnD)
        modulus_BmD = torch.exp(self.orders @ self.explicit_dropout(log_BnD) + self.log_modulus)
        turn_BmD = self.orders @ self.explicit_dropout(angle_BnD) + self.angle
        r_BmD = torch.addcmul(self._implicit(r_BnD), modulus_BmD, torch.cos(turn_BmD))
        p_BmD = torch.addcmul(self._implicit(p_BnD), modulus_BmD, torch.sin(turn_BmD))
        return self.real_norm(r_BmD), self.imaginary_norm(p_BmD)

    def _implicit(self, part_BnD: Tensor) -> Tensor:
        out_Bd = torch.relu(self.implicit(self.dropout(part_BnD).flatten(1)))
        return out_Bd.view(len(out_Bd), len(self.orders), -1)  # (B, m, D)


class EulerNet(CTRModel):
    r"""Logits (B,).

    $$r_f = \mu_f \cos e_f,\quad p_f = \mu_f \sin e_f,\qquad z = w^\top r_L + w^\top p_L + 2b$$

    with $r_L$, $p_L$ after L layers, flattened.

    Structure: ids -> embedding -> cosine and sine -> {L layers: (powers [ln, map, exp] | linear map [ReLU]) -> sum ->
    layer norm} -> linear map -> logit

    Parameters: $VD + F$, the layers', and $m_L D + 1$.

    Source: Tian, Bai, Zhao, Wen, Cao, "EulerNet: Adaptive Feature Interaction Learning via Euler's Formula for CTR
    Prediction", SIGIR 2023.

    Paper and code: The public code keeps the layer norms' weights when they are off; here they are not there. The
    default is its setting for fields of width 10 on MovieLens and Frappe.
    """

    settings: EulerNetSettings

    def __init__(self, schema: Schema, settings: EulerNetSettings) -> None:
        super().__init__(schema, settings)
        self.modulus = nn.Parameter(torch.ones(schema.num_fields, 1))
        counts = [schema.num_fields, *settings.order_vectors]
        layers = [EulerLayer(n, m, settings) for n, m in zip(counts, settings.order_vectors, strict=False)]
        self.layers = nn.ModuleList(layers)
        self.head = LogitMap(settings.order_vectors[-1] * settings.embedding_dim)
        reset_linear_maps(self)
        for layer in layers:
            layer.reset()

    def interact(self, e_BFD: Tensor) -> Tensor:
        r, p = self.modulus * torch.cos(e_BFD), self.modulus * torch.sin(e_BFD)
        for layer in self.layers:
            r, p = layer(r, p)
        logits: Tensor = self.head((r + p).flatten(1)) + self.head.bias  # one head on both parts: its bias twice
        return logits.squeeze(1)


def build(name: str, schema: Schema, settings: EulerNetSettings) -> EulerNet:
    """Return an EulerNet."""
    return EulerNet(schema, settings)
