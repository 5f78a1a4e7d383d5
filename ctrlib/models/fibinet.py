r"""FiBiNET: bilinear products of pairs of fields, once as they are and once weighed by a squeeze and excitation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import ACTIVATIONS, FirstOrder, activation, reset_linear_maps
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import DNNSettings

MAPS = ("all", "each", "interaction")


@dataclass(frozen=True)
class FiBiNETSettings(DNNSettings):
    """maps: "all" has one bilinear map for all pairs, "each" one for each left field, "interaction" one for each pair.

    shared_maps: plain and weighed fields go through the same bilinear maps. reduction: the squeeze has F / reduction
    hidden units, rounded down, at least 1. excitation: the activation that gives the fields' weights. dropout acts in
    the MLP alone; without hidden units a linear map reads the products.
    """

    maps: str = "interaction"
    shared_maps: bool = False
    reduction: float = 3.0
    excitation: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.maps not in MAPS:
            raise unknown("kind of bilinear maps", self.maps, MAPS)
        if self.excitation not in ACTIVATIONS:
            raise unknown("activation", self.excitation, ACTIVATIONS)
        if not self.reduction > 0:
            raise SettingError(f"reduction is {self.reduction}; the number of fields is divided by it: give 3, say.")


class SqueezeExcitation(nn.Module):
    r"""Field vectors (B, F, D) -> (B, F, D), each field multiplied by a weight of its own.

    $$s_f = \tfrac1D \sum_k e_{fk},\qquad a = \phi(W_2\, \mathrm{ReLU}(W_1 s)),\qquad e'_f = a_f e_f$$

    Parameters: $2Fr$ with $W_1 \in \mathbb R^{r \times F}$, no biases. Source: as for `FiBiNET`.
    """

    def __init__(self, num_fields: int, reduction: float, nonlinearity: str) -> None:
        super().__init__()
        reduced = max(1, int(num_fields / reduction))
        self.squeeze = nn.Linear(num_fields, reduced, bias=False)
        self.excite = nn.Linear(reduced, num_fields, bias=False)
        self.activation = activation(nonlinearity)

    def forward(self, e_BFD: Tensor) -> Tensor:
        weight_BF: Tensor = self.activation(self.excite(torch.relu(self.squeeze(e_BFD.mean(dim=2)))))
        return e_BFD * weight_BF[:, :, None]


class BilinearPairs(nn.Module):
    r"""Field vectors (B, F, D) -> (B, P, D) for the $P = F(F-1)/2$ pairs $i < j$, ordered by i, then j.

    $$b_{ij} = (e_i W) \odot e_j$$

    with $W$ one for all pairs, $W_i$ or $W_{ij}$. Parameters: $D^2$, $FD^2$ or $PD^2$; of $W_i$ the last is in no pair.
    Xavier-normal values are drawn for the stacked tensor. Source: as for `FiBiNET`.
    """

    def __init__(self, num_fields: int, dim: int, maps: str) -> None:
        super().__init__()
        self.maps, self.num_fields = maps, num_fields
        stacked = {"all": (), "each": (num_fields,), "interaction": (num_fields * (num_fields - 1) // 2,)}[maps]
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(*stacked, dim, dim)))

    def forward(self, e_BFD: Tensor) -> Tensor:
        return torch.cat([left * e_BFD[:, i + 1 :] for i, left in enumerate(self.left(e_BFD))], dim=1)

    def left(self, e_BFD: Tensor) -> list[Tensor]:
        """Return for each left field i its vector times the map, (B, 1, D), or for "interaction" (B, F - 1 - i, D)."""
        last, dim = e_BFD.shape[1] - 1, e_BFD.shape[2]
        if self.maps == "all":
            return list((e_BFD[:, :last] @ self.weight).split(1, dim=1))
        if self.maps == "each":
            return list(torch.einsum("bfd,fdk->bfk", e_BFD[:, :last], self.weight[:last]).split(1, dim=1))
        blocks = self.weight.split(list(range(last, 0, -1)))  # (F - 1 - i, D, D) for each i
        wide = [block.transpose(0, 1).flatten(1) for block in blocks]  # the maps of one left field side by side
        return [(e_BFD[:, i] @ map_).unflatten(1, (-1, dim)) for i, map_ in enumerate(wide)]


class FiBiNET(CTRModel):
    r"""Logits (B,), with $b$ the bilinear products of all pairs of fields and $E^s$ the weighed fields.

    $$z = \sum_f w_f + \mathrm{MLP}\big(\big[\mathrm{vec}\, b(E) \,\|\, \mathrm{vec}\, b'(E^s)\big]\big)$$

    Structure: ids -> (first order | embedding -> (bilinear products | gate [squeeze, excite] -> bilinear products) ->
    concatenation -> MLP) -> sum -> logit

    Parameters: $VD + V + 2Fr$; $D^2$, $FD^2$ or $PD^2$, twice unless the maps are shared; the MLP from $F(F-1)D$; the
    first-order term has no bias.

    Source: Huang, Zhang, Zhang, "FiBiNET: Combining Feature Importance and Bilinear feature Interaction for
    Click-Through Rate Prediction", RecSys 2019.

    Paper and code: The first version of the public library, whose runs the open benchmark lists, shares the maps of $b$
    and $b'$; later versions have two, and so has the default here. Without the MLP the paper sums the products; the
    library, and this model, weigh them.
    """

    def __init__(self, schema: Schema, settings: FiBiNETSettings) -> None:
        super().__init__(schema, settings)
        fields, dim = schema.num_fields, settings.embedding_dim
        if fields < 2:
            raise SettingError("FiBiNET multiplies pairs of fields: the data need at least 2 fields.")
        self.first_order = FirstOrder(schema, bias=False)
        self.senet = SqueezeExcitation(fields, settings.reduction, settings.excitation)
        self.pairs = BilinearPairs(fields, dim, settings.maps)
        self.weighed_pairs = self.pairs if settings.shared_maps else BilinearPairs(fields, dim, settings.maps)
        self.mlp = settings.mlp(fields * (fields - 1) * dim, head=True)
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        products_BPD = torch.cat([self.pairs(e_BFD), self.weighed_pairs(self.senet(e_BFD))], dim=1)
        logits: Tensor = self.mlp(products_BPD.flatten(1))
        return logits


def build(name: str, schema: Schema, settings: FiBiNETSettings) -> FiBiNET:
    """Return a FiBiNET."""
    return FiBiNET(schema, settings)
