"""DCN and DCNv2: a cross network with an MLP beside it or behind it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import CrossNetwork, GatedCrossNetwork, LogitMap, RankOneCrossNetwork, reset_linear_maps
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import DNNSettings

STRUCTURES = ("parallel", "stacked")


@dataclass(frozen=True)
class DCNv2Settings(DNNSettings):
    """cross_layers: C. structure: "parallel" puts the MLP beside the cross network, "stacked" on its output.

    Without hidden units the MLP is left out, which gives CrossNetV2. dropout acts in the MLP alone.
    """

    cross_layers: int = 3
    structure: str = "parallel"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.structure not in STRUCTURES:
            raise unknown("structure", self.structure, STRUCTURES)
        if self.cross_layers < 1:
            raise SettingError(f"cross_layers is {self.cross_layers}; a cross network needs at least 1.")


@dataclass(frozen=True)
class DCNSettings(DCNv2Settings):
    """As for DCNv2. Without hidden units it is the rank-one cross network alone."""


class CrossModel(CTRModel):
    """Logits (B,) of a cross network with an MLP beside it or behind it. A subclass says which cross network."""

    settings: DCNv2Settings
    network: type[CrossNetwork] | type[GatedCrossNetwork] | type[RankOneCrossNetwork]

    def __init__(self, schema: Schema, settings: DCNv2Settings) -> None:
        super().__init__(schema, settings)
        self.cross = self.network(self.width, settings.cross_layers)
        self.mlp = settings.mlp(self.width, head=False) if settings.hidden_units else None
        width = self.width if self.mlp is None else self.mlp.out_width
        if self.mlp is not None and settings.structure == "parallel":
            width += self.width
        self.head = LogitMap(width)
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        x = e_BFD.flatten(1)
        state = self.cross(x)
        if self.mlp is not None:
            parallel = self.settings.structure == "parallel"
            state = torch.cat([state, self.mlp(x)], dim=1) if parallel else self.mlp(state)
        return self.head(state).squeeze(1)  # type: ignore[no-any-return]

    def stream_logits(self, e_BFD: Tensor) -> Tensor:
        r"""Return what the cross network and the MLP add to the logit, (2, B).

        $$z = w_c^\top c(x) + w_m^\top \mathrm{MLP}(x) + b$$

        $[w_c \,\|\, w_m]$ is the head's weight; its bias $b$ is in neither part. In training, dropout draws new masks.
        Raises `SettingError` unless the model has two streams, an MLP beside the cross network.
        """
        if self.mlp is None or self.settings.structure != "parallel":
            raise SettingError(
                "Only a cross network with an MLP beside it has two streams: set structure to 'parallel' and give "
                "hidden_units."
            )
        x = e_BFD.flatten(1)
        explicit, implicit = self.head.weight[0].split([self.width, self.mlp.out_width])
        return torch.stack([self.cross(x) @ explicit, self.mlp(x) @ implicit])


class DCNv2(CrossModel):
    r"""Logits (B,), with the cross network $c$ of C layers.

    $$x_{l+1} = x_0 \odot (W_l x_l + b_l) + x_l$$
    $$z_{parallel} = w^\top \big[c(x) \,\|\, \mathrm{MLP}(x)\big] + b,\qquad
      z_{stacked} = w^\top \mathrm{MLP}(c(x)) + b$$

    Both of our papers use the parallel form.

    Structure: ids -> embedding -> ({C layers: cross layer [full map]} | MLP) -> concatenation -> linear map -> logit

    Parameters: $VD + C(d^2 + d) + \sum_l (h_{l-1} + 1) h_l + h_L + 1$, with batch norm $2 \sum_l h_l$ more, and
    parallel $d$ more.

    Source: Wang, Shivanna, Cheng, Jain, Lin, Hong, Chi, "DCN V2", The Web Conference 2021, without its low-rank
    mixture.

    Paper and code: The public library has the mixture as an option. The DS-MLP paper says that its baselines have the
    open benchmark's settings; on Criteo its configuration has four cross layers, the benchmark three.
    """

    network = CrossNetwork


class DCN(CrossModel):
    r"""Logits (B,), as of DCNv2 but with the rank-one cross network $c$ of C layers.

    $$x_{l+1} = x_0\, (w_l^\top x_l) + b_l + x_l$$
    $$z_{parallel} = w^\top \big[c(x) \,\|\, \mathrm{MLP}(x)\big] + b,\qquad
      z_{stacked} = w^\top \mathrm{MLP}(c(x)) + b$$

    Structure: ids -> embedding -> ({C layers: cross layer [rank one]} | MLP) -> concatenation -> linear map -> logit

    Parameters: $VD + 2Cd + \sum_l (h_{l-1} + 1) h_l + h_L + 1$, with batch norm $2 \sum_l h_l$ more, and parallel $d$
    more.

    Source: Wang, Fu, Fu, Wang, "Deep & Cross Network for Ad Click Predictions", ADKDD 2017, in the parallel form.

    Paper and code: The paper puts numeric features beside the embeddings as they are; here every field is embedded.
    """

    network = RankOneCrossNetwork


def build(name: str, schema: Schema, settings: DCNv2Settings) -> DCNv2:
    """Return a DCNv2."""
    return DCNv2(schema, settings)


def build_dcn(name: str, schema: Schema, settings: DCNSettings) -> DCN:
    """Return a DCN."""
    return DCN(schema, settings)
