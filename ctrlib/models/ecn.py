r"""ECN and FCN: cross networks with a self-mask, of exponential degree alone or fused with one of linear degree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.layers import Dropout, FieldEmbedding, LogitMap, add_product, reset_linear_maps
from ctrlib.losses import bce_loss, weak_parts
from ctrlib.models.base import CTRModel, ModelSettings
from ctrlib.models.branches import BranchModel


@dataclass(frozen=True)
class ECNSettings(ModelSettings):
    """cross_layers: C. heads: H, slices of width D of a table with DH columns, which share the network's weights.

    layer_norm: normalise what the self-mask reads. batch_norm: normalise every head after a layer's map. dropout acts
    on every layer's output.
    """

    cross_layers: int = 3
    heads: int = 1
    layer_norm: bool = True
    batch_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.cross_layers, self.heads) < 1:
            raise SettingError("cross_layers and heads must be at least 1.")

    def network(self, width: int, layers: int, rate: float, *, exponential: bool) -> MaskedCrossNetwork:
        """Return a cross network of so many layers as these settings describe it."""
        return MaskedCrossNetwork(
            width,
            layers,
            self.heads,
            exponential=exponential,
            layer_norm=self.layer_norm,
            batch_norm=self.batch_norm,
            dropout=rate,
        )


@dataclass(frozen=True)
class FCNSettings(ECNSettings):
    """As for ECN, whose layers are cross_layers. linear_layers: those of LCN. linear_dropout: None: as dropout.

    The public class starts from four layers in both and rates 0.1 and 0.3.
    """

    cross_layers: int = 4
    linear_layers: int = 4
    linear_dropout: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.linear_layers < 1:
            raise SettingError(f"linear_layers is {self.linear_layers}; a cross network needs at least 1.")


class MaskedCrossNetwork(nn.Module):
    r"""x_0 (B, H, d) -> logits (B,), the mean over heads. a is $x_l$ in ECN (`exponential`), $x_0$ in LCN.

    $$c = \mathrm{BN}_H(W_l x_l),\quad m = \mathrm{ReLU}(\mathrm{LN}(c)),\quad
      x_{l+1} = \mathrm{Drop}\big(a \odot ([c \,\|\, c \odot m] + b_l) + x_l\big),\qquad
      z = \tfrac1H \sum_h (w^\top x_{C,h} + \beta)$$

    $W_l$ is d/2 x d, so only half of the coordinates are masked. Parameters: for each layer $d^2/2 + d$, with layer
    norm $d$ and with batch norm $2H$ more; $d + 1$. $b_l$ starts uniform in (0, 1) and `reset_linear_maps` leaves it
    so, as in the public code. Raises `SettingError` for an odd d.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        *,
        exponential: bool,
        layer_norm: bool = True,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % 2:
            raise SettingError(f"The mask splits a width of F * D = {width} into halves: choose an even embedding_dim.")
        self.exponential = exponential
        self.maps = nn.ModuleList(nn.Linear(width, width // 2, bias=False) for _ in range(layers))
        self.biases = nn.ParameterList(nn.Parameter(torch.rand(width)) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width // 2) if layer_norm else nn.Identity() for _ in range(layers))
        self.head_norms = nn.ModuleList(nn.BatchNorm1d(heads) if batch_norm else nn.Identity() for _ in range(layers))
        self.dropout = Dropout(dropout)
        self.head = LogitMap(width)

    def forward(self, x0_BHd: Tensor) -> Tensor:
        x = x0_BHd
        for linear, bias, norm, head_norm in zip(self.maps, self.biases, self.norms, self.head_norms, strict=True):
            c = head_norm(linear(x))
            factor = torch.cat([c, c * torch.relu(norm(c))], dim=2) + bias
            x = self.dropout(add_product(x, x if self.exponential else x0_BHd, factor))
        logits: Tensor = self.head(x).squeeze(2).mean(dim=1)
        return logits


def heads_of(e_BFD: Tensor, heads: int) -> Tensor:
    """Return the heads' slices of field vectors (B, F, DH), each flattened, (B, H, d).

    A slice holds the first halves of all its fields, then their second halves: the mask acts on the latter.
    """
    e_BHFD = e_BFD.unflatten(2, (heads, -1)).transpose(1, 2)
    first, second = e_BHFD.tensor_split(2, dim=3)
    return torch.cat([first.flatten(2), second.flatten(2)], dim=2)


class ECN(CTRModel):
    r"""Logits (B,) of the exponential cross network, of degree $2^C$; its mask is told at `MaskedCrossNetwork`.

    $$c = \mathrm{BN}_H(W_l x_l),\quad m = \mathrm{ReLU}(\mathrm{LN}(c)),\quad
      x_{l+1} = \mathrm{Drop}\big(x_l \odot ([c \,\|\, c \odot m] + b_l) + x_l\big),\quad
      z = \tfrac1H \sum_h (w^\top x_{C,h} + \beta)$$

    embedding_dim stays the width D of a field in one head: the table has DH columns.

    Structure: ids -> embedding -> {C layers: masked cross layer [exponential] -> dropout} -> linear map -> logit

    Parameters: $VDH$ and those of the network with $d = FD$.

    Source: Li, Zhang, Zhang, Li, Sang, Zhu, "FCN: Fusing Exponential and Linear Cross Network for Click-Through Rate
    Prediction", KDD 2026 (arXiv 2407.13349, first as DCNv3).

    Paper and code: We compute the first public code, with the mask; a later one has $\mathrm{LN}(c)$ in place of $c
    \odot m$ and normalises the heads after that.
    """

    settings: ECNSettings

    def __init__(self, schema: Schema, settings: ECNSettings) -> None:
        super().__init__(schema, settings)
        self.embedding = FieldEmbedding(schema, settings.embedding_dim * settings.heads, settings.embedding_std)
        self.cross = settings.network(self.width, settings.cross_layers, settings.dropout, exponential=True)
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        logits: Tensor = self.cross(heads_of(e_BFD, self.settings.heads))
        return logits


class FCN(BranchModel):
    r"""Logits (B,) of an exponential and a linear cross network on one embedding.

    $$z = \tfrac12 (z_E + z_L)$$
    $$\mathcal L = \mathcal L_0 + \sum_{s \in \{E, L\}} \max(0, \mathcal L_s - \mathcal L_0)\, \mathcal L_s,\qquad
      \mathcal L_0 = \mathrm{bce}(\sigma(z), y),\quad \mathcal L_s = \mathrm{bce}(\sigma(z_s), y)$$

    This is Tri-BCE, in which the weight carries a gradient, as in the public code; the mean is over logits, where the
    loss "tri-bce" of several passes takes it over probabilities.

    Structure: ids -> embedding -> ({C layers: masked cross layer [exponential] -> dropout} -> linear map | {C layers:
    masked cross layer [linear] -> dropout} -> linear map) -> mean -> logit -> Tri-BCE loss

    Parameters: $VDH$ and those of two `MaskedCrossNetwork`.

    Source: as for `ECN`.

    Paper and code: as for `ECN`. The DS-MLP authors publish neither configuration nor code of their FCN.
    """

    settings: FCNSettings

    def __init__(self, schema: Schema, settings: FCNSettings) -> None:
        super().__init__(schema, settings)
        self.embedding = FieldEmbedding(schema, settings.embedding_dim * settings.heads, settings.embedding_std)
        linear_rate = settings.dropout if settings.linear_dropout is None else settings.linear_dropout
        self.exponential = settings.network(self.width, settings.cross_layers, settings.dropout, exponential=True)
        self.linear = settings.network(self.width, settings.linear_layers, linear_rate, exponential=False)
        reset_linear_maps(self)

    def branch_logits(self, e_BFD: Tensor) -> Tensor:
        x_BHd = heads_of(e_BFD, self.settings.heads)
        return torch.stack([self.exponential(x_BHd), self.linear(x_BHd)])

    def branch_loss(self, logits_SKB: Tensor, labels_B: Tensor) -> Tensor:
        """Return the losses of the networks that do worse than their mean, each weighed by how much worse it is."""
        whole = bce_loss(logits_SKB.mean(dim=0), labels_B)
        return weak_parts(whole, torch.stack([bce_loss(logits_KB, labels_B) for logits_KB in logits_SKB]))


def build(name: str, schema: Schema, settings: ECNSettings) -> ECN:
    """Return an ECN."""
    return ECN(schema, settings)


def build_fcn(name: str, schema: Schema, settings: FCNSettings) -> FCN:
    """Return an FCN."""
    return FCN(schema, settings)
