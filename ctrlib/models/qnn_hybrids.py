"""DeepFM, xDeepFM and DCNv2 with QNN-alpha's layers in place of their MLP (QNN-alpha paper, 4.3.6 and Table 5).

The form `written` replaces the MLP and nothing else; `released` is the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import CIN, CrossNetwork, Dropout, FirstOrder, LogitMap, pair_sum, reset_linear_maps
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import widths
from ctrlib.models.qnn_alpha import QNNAlphaSettings, QNNTrunk

FORMS = ("written", "released")


@dataclass(frozen=True)
class HybridSettings(QNNAlphaSettings):
    """form: "written" or "released", see the module; the other settings are those of QNN-alpha's layers."""

    form: str = "released"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in FORMS:
            raise unknown("form", self.form, FORMS)


@dataclass(frozen=True)
class XDeepFMQNNSettings(HybridSettings):
    """cin_units: feature maps of each CIN layer, a tuple or a list."""

    cin_units: tuple[int, ...] = (32,)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "cin_units", widths("cin_units", self.cin_units))


@dataclass(frozen=True)
class DCNv2QNNSettings(HybridSettings):
    """cross_layers: C."""

    cross_layers: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cross_layers < 1:
            raise SettingError(f"cross_layers is {self.cross_layers}; a cross network needs at least 1.")


class Hybrid(CTRModel):
    """Logits (B,): a trunk of QNN-alpha's layers beside another part."""

    settings: HybridSettings

    def __init__(self, schema: Schema, settings: HybridSettings, head_width: int | None = None) -> None:
        super().__init__(schema, settings)
        self.trunk = QNNTrunk(schema.num_fields, settings)
        self.head = LogitMap(head_width or self.width)

    def interact(self, e_BFD: Tensor) -> Tensor:
        return self.interact_passes(e_BFD, 1)[0]


class DeepFMQNN(Hybrid):
    r"""Logits (B,): a factorization machine beside QNN-alpha's layers $q$.

    $$z_{written} = w^\top q(x) + \beta + \mathrm{FM} + \mathrm{LR},\qquad
      z_{released} = w^\top q(x) + \beta + \tfrac12 (\mathrm{FM} + \mathrm{LR})$$
    $$\mathrm{FM} = \sum_{i<j} \langle e_i, e_j \rangle,\qquad \mathrm{LR} = b + \sum_f w_f$$

    Structure: ids -> (first order [by half] | embedding -> (inner products [by half] | QNN-alpha layers -> linear map))
    -> sum -> logit -> self-ensemble loss

    Parameters: $VD$, those of QNN-alpha's layers, and $V + d + 2$.

    Source: Li, Zhang, Zhang, Sang, Zhu, "Revisiting Feature Interactions from the Perspective of Quadratic Neural
    Networks for Click-through Rate Prediction", KDD 2025, 4.3.6 and Table 5.

    Paper and code: The paper replaces the MLP alone. Its authors' code also halves the machine and the first-order
    term, which is the default here.
    """

    def __init__(self, schema: Schema, settings: HybridSettings) -> None:
        super().__init__(schema, settings)
        self.first_order = FirstOrder(schema)
        self.share = 0.5 if settings.form == "released" else 1.0
        reset_linear_maps(self)

    def interact_passes(self, e_BFD: Tensor, passes: int) -> Tensor:
        logits_KB: Tensor = self.head(self.trunk(e_BFD.flatten(1), passes)).squeeze(-1)
        return logits_KB + self.share * pair_sum(e_BFD)

    def add_first_order(self, ids: Tensor, logits: Tensor) -> Tensor:
        assert self.first_order is not None
        weighted: Tensor = self.share * self.first_order(ids)
        return logits + weighted


class XDeepFMQNN(Hybrid):
    r"""Logits (B,): a compressed interaction network and a first-order term beside QNN-alpha's layers $q$.

    $$z = w^\top q(x) + b + \mathrm{CIN}(E) + \sum_f w_f$$

    Structure: ids -> (first order | embedding -> (CIN | QNN-alpha layers -> linear map)) -> sum -> logit ->
    self-ensemble loss

    Parameters: $VD$, those of QNN-alpha's layers, $V + d + 1$ and the CIN's
    $\sum_k (F N_{k-1} + 1) N_k + \sum_k N_k + 1$.

    Source: Li, Zhang, Zhang, Sang, Zhu, "Revisiting Feature Interactions from the Perspective of Quadratic Neural
    Networks for Click-through Rate Prediction", KDD 2025, 4.3.6 and Table 5.

    Paper and code: The forms `written` and `released` are the same.
    """

    def __init__(self, schema: Schema, settings: XDeepFMQNNSettings) -> None:
        super().__init__(schema, settings)
        self.first_order = FirstOrder(schema, bias=False)
        self.cin = CIN(schema.num_fields, settings.cin_units)
        reset_linear_maps(self)

    def interact_passes(self, e_BFD: Tensor, passes: int) -> Tensor:
        logits_KB: Tensor = self.head(self.trunk(e_BFD.flatten(1), passes)).squeeze(-1)
        compressed_B: Tensor = self.cin(e_BFD)
        return logits_KB + compressed_B


class ReleasedCross(nn.Module):
    r"""x_0 (B, d) -> (B, d): $x_{l+1} = \mathrm{Drop}(x_l + x_0 \odot \rho(\mathrm{BN}(W_l x_l + b_l)))$."""

    def __init__(self, width: int, layers: int, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) if batch_norm else nn.Identity() for _ in range(layers))
        self.dropout = Dropout(dropout)

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.dropout(x + x0 * torch.relu(norm(layer(x))))
        return x


class DCNv2QNN(Hybrid):
    r"""Logits (B,): a cross network $c$ beside QNN-alpha's layers $q$, one head on both.

    $$z = w^\top \big[q(x) \,\|\, c(x)\big] + b$$
    $$x^{written}_{l+1} = x_l + x_0 \odot (W_l x_l + b_l),\qquad
      x^{released}_{l+1} = \mathrm{Drop}\big(x_l + x_0 \odot \rho(\mathrm{BN}(W_l x_l + b_l))\big)$$

    Structure: ids -> embedding -> (QNN-alpha layers | {C layers: cross layer [batch norm, ReLU] -> dropout}) ->
    concatenation -> linear map -> logit -> self-ensemble loss

    Parameters: $VD$, those of QNN-alpha's layers, and $C(d^2 + d + 2d\,\mathbb 1_{BN}) + 2d + 1$, where only `released`
    has the batch norm.

    Source: Li, Zhang, Zhang, Sang, Zhu, "Revisiting Feature Interactions from the Perspective of Quadratic Neural
    Networks for Click-through Rate Prediction", KDD 2025, 4.3.6 and Table 5.

    Paper and code: The paper replaces the MLP alone. Its authors' code also puts batch norm, ReLU and dropout into the
    cross layers, which is the default here.
    """

    def __init__(self, schema: Schema, settings: DCNv2QNNSettings) -> None:
        width = schema.num_fields * settings.embedding_dim
        super().__init__(schema, settings, head_width=2 * width)
        if settings.form == "released":
            self.cross: nn.Module = ReleasedCross(width, settings.cross_layers, settings.batch_norm, settings.dropout)
        else:
            self.cross = CrossNetwork(width, settings.cross_layers)
        reset_linear_maps(self)

    def interact_passes(self, e_BFD: Tensor, passes: int) -> Tensor:
        x = e_BFD.flatten(1)
        crossed_KBd = torch.stack([self.cross(x) for _ in range(passes)])
        logits: Tensor = self.head(torch.cat([self.trunk(x, passes), crossed_KBd], dim=-1))
        return logits.squeeze(-1)


BUILDERS = {"DeepFM-QNN": DeepFMQNN, "xDeepFM-QNN": XDeepFMQNN, "DCNv2-QNN": DCNv2QNN}


def build(name: str, schema: Schema, settings: HybridSettings) -> Hybrid:
    """Return the hybrid called `name`."""
    hybrid: Hybrid = BUILDERS[name](schema, settings)  # type: ignore[arg-type]
    return hybrid
