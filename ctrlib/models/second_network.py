"""What QNN-alpha is measured against in the chapter on the second network; neither is in the paper.

An ensemble of whole networks, to ask whether the self-ensemble loss stands in for one. And T19 with a lifted gate,
to ask what the Khatri-Rao rows add over one product at the same cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.layers import Dropout, FieldEmbedding, LogitMap, add_product, reset_linear_maps
from ctrlib.losses import LOSSES, mean_probability_logit
from ctrlib.models.base import CTRModel, ModelSettings
from ctrlib.models.qnn_alpha import QNNAlphaSettings, QNNTrunk


@dataclass(frozen=True)
class LiftedSettings(ModelSettings):
    """layers: L. rows: the width of the lift in halves of d, so that its cost is that of as many rows."""

    loss: str = "self-ensemble"
    passes: int = 2
    layers: int = 2
    rows: int = 4
    batch_norm: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 1 or self.rows < 1:
            raise SettingError(f"layers and rows must be at least 1, got {self.layers} and {self.rows}.")


class LiftedLayer(nn.Module):
    """x (B, d) -> (B, d), before the last dropout."""

    def __init__(self, width: int, settings: LiftedSettings) -> None:
        super().__init__()
        if settings.rows * width % 2:
            raise SettingError(f"The lift is rows * d / 2 wide, but {settings.rows} * {width} is odd. Change rows.")
        lifted = settings.rows * width // 2
        self.up, self.down = nn.Linear(width, lifted), nn.Linear(lifted, width)
        self.norm = nn.BatchNorm1d(lifted) if settings.batch_norm else nn.Identity()
        self.dropout = Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.relu(self.down(torch.relu(self.norm(self.up(x)))))
        return add_product(x, x, self.dropout(gate))


class LiftedT19(CTRModel):
    r"""Logits (B,) of T19 with a gate that is lifted to the width $w = Rd/2$.

    $$x_{l+1} = \mathrm{Drop}\big(x_l + x_l \odot \mathrm{Drop}(\rho(W' \rho(\mathrm{BN}(W x_l + b)) + b'))\big),\qquad
      W \in \mathbb R^{w \times d},\ W' \in \mathbb R^{d \times w}$$

    Its $2wd = Rd^2$ multiply-adds a layer are those of QNN-alpha with R rows, whose gate is the sum of R fixed blocks
    where this one learns $W'$.

    Structure: ids -> embedding -> {L layers: (pass | (pass | gate rows [lift, batch norm, ReLU] -> linear map [ReLU])
    -> product) -> sum -> dropout} -> linear map -> logit -> self-ensemble loss

    Parameters: $VD + L[2dw + w + d + 2w\,\mathbb 1_{BN}] + d + 1$.

    Source: our own, for comparison.

    Paper and code: None: it is in no paper.
    """

    settings: LiftedSettings

    def __init__(self, schema: Schema, settings: LiftedSettings) -> None:
        super().__init__(schema, settings)
        self.layers = nn.ModuleList(LiftedLayer(self.width, settings) for _ in range(settings.layers))
        self.dropout = Dropout(settings.dropout)
        self.head = LogitMap(self.width)
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        x = e_BFD.flatten(1)
        for layer in self.layers:
            x = self.dropout(layer(x))
        return self.head(x).squeeze(-1)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class EnsembleSettings(QNNAlphaSettings):
    """passes: the number of networks, each of which passes once. shared_embedding: one table for all of them.

    loss: "bce" trains every network for itself; a loss that compares passes compares the networks.
    """

    loss: str = "bce"
    passes: int = 2
    shared_embedding: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in LOSSES:
            raise SettingError(f"Loss '{self.loss}' compares states; the ensemble gives logits: {', '.join(LOSSES)}.")


class Ensemble(CTRModel):
    r"""Logits (B,) of the mean probability of K whole networks of QNN-alpha's layers.

    $$z = \mathrm{logit}\Big(\tfrac1K \sum_{k=1}^{K} \sigma\big(w_k^\top q_k(x_k) + b_k\big)\Big)$$

    The networks may have tables of their own, so logits come from ids; `interact` is not defined.

    Structure: ids -> (embedding -> QNN-alpha layers -> linear map | embedding [its own] -> QNN-alpha layers -> linear
    map) -> mean [of probabilities] -> logit

    Parameters: K times those of QNN-alpha, with a shared table $(K - 1)VD$ less.

    Source: our own, for comparison.

    Paper and code: None: it is in no paper.
    """

    settings: EnsembleSettings

    def __init__(self, schema: Schema, settings: EnsembleSettings) -> None:
        super().__init__(schema, settings)
        count = settings.passes
        self.trunks = nn.ModuleList(QNNTrunk(schema.num_fields, settings) for _ in range(count))
        self.heads = nn.ModuleList(LogitMap(self.width) for _ in range(count))
        own = 0 if settings.shared_embedding else count - 1
        self.other_embeddings = nn.ModuleList(
            FieldEmbedding(schema, settings.embedding_dim, settings.embedding_std) for _ in range(own)
        )
        reset_linear_maps(self)
        for table in self.other_embeddings:
            assert isinstance(table, FieldEmbedding)
            draw = int(torch.randint(2**31, (1,)))  # from the seed of the weights
            table.reset(torch.Generator().manual_seed(draw))

    def network_logits(self, ids: Tensor) -> Tensor:
        """Return the logits of every network, (K, B)."""
        first = self.embedding(ids)
        looked_up = [first, *(table(ids) for table in self.other_embeddings)]
        logits = []
        for k, (trunk, head) in enumerate(zip(self.trunks, self.heads, strict=True)):
            e_BFD = looked_up[k] if self.other_embeddings else first
            logits.append(head(trunk(e_BFD.flatten(1))[0]).squeeze(-1))
        return torch.stack(logits)

    def forward(self, ids: Tensor) -> Tensor:
        return mean_probability_logit(self.network_logits(ids))

    def training_loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        """Return the loss over the networks, a scalar.

        A mean over K networks would give each one 1/K of the gradient that it has alone. Its table's L2 penalty is
        not divided, so with tables of their own the gradient is taken K times.
        """
        loss = LOSSES[self.settings.loss](self.network_logits(ids), labels)
        if self.settings.shared_embedding:
            return loss
        return loss + (self.settings.passes - 1) * (loss - loss.detach())


def build_lifted(name: str, schema: Schema, settings: LiftedSettings) -> LiftedT19:
    """Return T19 with a lifted gate."""
    return LiftedT19(schema, settings)


def build_ensemble(name: str, schema: Schema, settings: EnsembleSettings) -> Ensemble:
    """Return an ensemble of QNN-alpha networks."""
    return Ensemble(schema, settings)
