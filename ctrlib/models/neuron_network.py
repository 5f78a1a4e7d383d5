r"""The network in which Table 1 compares neuron formats.

x_0 = flatten(E); then L layers of one format, each followed by batch norm (if on), an activation (if any) and
dropout; then one affine map to the logit. The width stays d, with two exceptions that the authors' code makes:
formats with a full tensor (T1, T2, T6) first compress x_0 to `compressed_width` by a map without bias, and MLP
has layers of `hidden_width`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.layers import Dropout, LogitMap, activation, reset_linear_maps
from ctrlib.models.base import CTRModel, ModelSettings
from ctrlib.neurons import FORMATS, NeuronFormat, NeuronLayer


@dataclass(frozen=True)
class NeuronNetworkSettings(ModelSettings):
    """layers: L. post_activation: after each layer, "none" or "relu". batch_norm: between layer and activation.

    compressed_width is read by T1, T2 and T6 alone, hidden_width by MLP alone.
    """

    layers: int = 3
    post_activation: str = "none"
    batch_norm: bool = False
    compressed_width: int = 100
    hidden_width: int = 400

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 1:
            raise SettingError(f"layers is {self.layers}; a network needs at least 1.")


class NeuronNetwork(CTRModel):
    r"""Logits (B,) from L layers of one neuron format (models of Table 1); `ctrlib.neurons` has their equations.

    $$x_0 = \mathrm{flatten}(E),\qquad
      x_{l+1} = \mathrm{Drop}\big(\phi(\mathrm{BN}(\mathrm{layer}(x_l, x_0)))\big),\qquad z = w^\top x_L + b$$

    Structure: ids -> embedding -> {L layers: quadratic layer -> dropout} -> linear map -> logit

    Parameters: $VD$, those of the L layers, $d + 1$, and with batch norm $2Ld$. A map from $d$ to $nd$ has
    $n(d^2 + d)$, a bilinear form at the compressed width $c$ has $c^3 + c$ and comes after a map of $dc$.

    Source: Li, Zhang, Zhang, Sang, Zhu, "Revisiting Feature Interactions from the Perspective of Quadratic Neural
    Networks for Click-through Rate Prediction", KDD 2025, Table 1 (T1 to T25), and its authors' code (T26 to T30).

    Paper and code: The table tells of one set of settings for all formats. In the authors' logs T3, T4, T5, T7 and T8
    have batch norm with ReLU and none without it; in their code T1, T2 and T6 come after a map to a width of 100.
    """

    settings: NeuronNetworkSettings

    def __init__(self, form: NeuronFormat, schema: Schema, settings: NeuronNetworkSettings) -> None:
        super().__init__(schema, settings)
        width = settings.compressed_width if form.bilinear else self.width
        self.compress = nn.Linear(self.width, width, bias=False) if form.bilinear else nn.Identity()
        hidden = settings.hidden_width if form.name == "MLP" else width
        self.layers = nn.ModuleList()
        for layer in range(settings.layers):
            self.layers.append(NeuronLayer(form, width if layer == 0 else hidden, hidden))
        norm = nn.BatchNorm1d if settings.batch_norm else nn.Identity
        self.norms = nn.ModuleList(norm(hidden) for _ in range(settings.layers))
        self.activation = activation(settings.post_activation)
        self.dropout = Dropout(settings.dropout)
        self.head = LogitMap(hidden)
        reset_linear_maps(self)

    def states(self, e_BFD: Tensor) -> list[Tensor]:
        """Return the network's input and every layer's output, each (B, width)."""
        x0 = self.compress(e_BFD.flatten(1))
        states = [x0]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            states.append(self.dropout(self.activation(norm(layer(states[-1], x0)))))
        return states

    def interact(self, e_BFD: Tensor) -> Tensor:
        logits: Tensor = self.head(self.states(e_BFD)[-1])
        return torch.squeeze(logits, 1)


def build(name: str, schema: Schema, settings: NeuronNetworkSettings) -> NeuronNetwork:
    """Return the network of the format called `name`."""
    return NeuronNetwork(FORMATS[name], schema, settings)
