r"""SFG (GE4Rec): interaction models in which one side of every product is generated from all fields."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import MLP, Dropout, FirstOrder, WeightedPairs, add_product, reset_linear_maps
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import DNNSettings

HOSTS = ("FM", "DeepFM", "FmFM", "DCNv2")


@dataclass(frozen=True)
class SFGSettings(DNNSettings):
    r"""host: the model whose interaction is generated, one of FM, DeepFM, FmFM and DCNv2.

    hidden_units: of the MLP beside it; FM and FmFM have none, whatever stands here, and without hidden units DeepFM is
    FM. scale: $\gamma$; the public configurations have 0.1 (Criteo) and 6 (Avazu) for FM, 0.01 and 8 for DCNv2.
    residual: add the encoder's input to its output. cross_layers: C, of DCNv2, where dropout acts on every cross layer
    too.
    """

    host: str = "DeepFM"
    scale: float = 1.0
    residual: bool = False
    cross_layers: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.host not in HOSTS:
            raise unknown("host", self.host, HOSTS)
        if self.scale <= 0:
            raise SettingError(f"scale is {self.scale}; it multiplies what is generated, so it must be above 0.")
        if self.cross_layers < 1:
            raise SettingError(f"cross_layers is {self.cross_layers}; a cross network needs at least 1.")


class FeatureGenerator(nn.Module):
    r"""x (B, d) -> (B, d): $G(x) = \gamma\,\mathrm{ReLU}(Wx)$, with `residual` $+\, x$: every field from all fields.

    Parameters: $d^2$. Our reading: the public repository leaves its encoder out. That it is one layer on all fields,
    the ReLU, $\gamma$ and that a residual may be added follow from its configurations; that $W$ has no bias and where
    the residual is added do not.
    """

    def __init__(self, width: int, scale: float, residual: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        self.scale = scale
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        generated = torch.relu(self.linear(x))
        return torch.add(x, generated, alpha=self.scale) if self.residual else self.scale * generated


def ordered_pair_sum(g_BFD: Tensor, e_BFD: Tensor) -> Tensor:
    r"""Return $\sum_{i<j} \langle g_i, e_j \rangle$, (B,). Sums of the fields before j make it cost O(FD)."""
    return (g_BFD[:, :-1].cumsum(dim=1) * e_BFD[:, 1:]).sum(dim=(1, 2))


class SFGPairs(CTRModel):
    r"""Logits (B,) with an FM, a DeepFM or an FmFM as host, and $G$ the generated fields.

    $$z_{FM} = b + \sum_f w_f + \sum_{i<j} \langle G_i, e_j \rangle,\qquad z_{DeepFM} = z_{FM} + \mathrm{MLP}(x),\qquad
      z_{FmFM} = b + \sum_f w_f + \sum_{i<j} e_i^\top M_{ij}\, G_j$$

    The order of a pair's fields matters now, so there is one term for each $i < j$, as in the public code.

    Structure: ids -> (first order | embedding -> ((pass | generator) -> inner products | MLP)) -> sum -> logit

    Parameters: $VD + V + 1 + d^2$, for DeepFM those of its MLP more, for FmFM $P D^2$ more.

    Source: Yin, Pan, Wang, Wang, Zhang, Jiang, Lian, Chen, "From Feature Interaction to Feature Generation: A
    Generative Paradigm of CTR Prediction Models", ICML 2025.

    Paper and code: It is trained by the click label alone. The hosts are those of its public code; the encoder is our
    reading, see `FeatureGenerator`. The DS-MLP paper does not say which host its SFG has.
    """

    def __init__(self, schema: Schema, settings: SFGSettings) -> None:
        super().__init__(schema, settings)
        self.first_order = FirstOrder(schema)
        self.generator = FeatureGenerator(self.width, settings.scale, settings.residual)
        matrices = settings.host == "FmFM"
        self.matrices = WeightedPairs(schema.num_fields, settings.embedding_dim, "matrixed") if matrices else None
        deep = settings.host == "DeepFM" and settings.hidden_units
        self.mlp = settings.mlp(self.width, head=True) if deep else None
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        x = e_BFD.flatten(1)
        g_BFD = self.generator(x).view_as(e_BFD)
        logits = ordered_pair_sum(g_BFD, e_BFD) if self.matrices is None else self.matrices(e_BFD, g_BFD)
        return logits if self.mlp is None else logits + self.mlp(x)


class SFGCross(CTRModel):
    r"""Logits (B,) with a DCNv2 as host: every cross layer's factor is generated from what the layer reads.

    $$x_{l+1} = \mathrm{Drop}\big(x_l + G_l(x_l) \odot W_l x_l\big),\qquad
      z = u^\top \mathrm{ReLU}\big(U [x_C \,\|\, \mathrm{MLP}(x_0)] + b\big) + c$$

    Each layer has an encoder of its own, no map has a bias, and the last hidden layer is twice as wide as the n values
    that it reads. Without hidden units the MLP is left out.

    Structure: ids -> embedding -> ({C layers: (pass | (generator | linear map) -> product) -> sum -> dropout} | MLP) ->
    concatenation -> MLP [one layer] -> logit

    Parameters: $VD + 2Cd^2$, the MLP, $2n^2 + 2n$ and $2n + 1$.

    Source: as for `SFGPairs`.

    Paper and code: as for `SFGPairs`.
    """

    def __init__(self, schema: Schema, settings: SFGSettings) -> None:
        super().__init__(schema, settings)
        layers, width = range(settings.cross_layers), self.width
        self.maps = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in layers)
        self.generators = nn.ModuleList(FeatureGenerator(width, settings.scale, settings.residual) for _ in layers)
        self.dropout = Dropout(settings.dropout)
        self.mlp = settings.mlp(width, head=False) if settings.hidden_units else None
        joined = width + (0 if self.mlp is None else self.mlp.out_width)
        self.head = MLP(joined, (2 * joined,), head=True)
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        x0 = x = e_BFD.flatten(1)
        for linear, generator in zip(self.maps, self.generators, strict=True):
            x = self.dropout(add_product(x, generator(x), linear(x)))
        logits: Tensor = self.head(x if self.mlp is None else torch.cat([x, self.mlp(x0)], dim=1))
        return logits


def build(name: str, schema: Schema, settings: SFGSettings) -> CTRModel:
    """Return an SFG around the host that the settings name."""
    return SFGCross(schema, settings) if settings.host == "DCNv2" else SFGPairs(schema, settings)
