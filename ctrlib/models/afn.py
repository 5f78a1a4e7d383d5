r"""AFN and AFN+: cross features of learned orders by logarithmic neurons, alone or with an MLP on a second table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.layers import MLP, FieldEmbedding, LogitMap, reset_linear_maps
from ctrlib.losses import LOSSES
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import DNNSettings, widths

SMALLEST = 1e-5
"""Magnitudes below it count as it, so that the logarithm stays finite."""


@dataclass(frozen=True)
class AFNSettings(DNNSettings):
    """By default AFN+. Without hidden units the ensemble's MLP and its table are left out, which gives AFN.

    neurons: K, logarithmic neurons. neuron_units: widths of the MLP on their output. hidden_units: of the ensemble's
    MLP. neuron_dropout: in the former; None: as dropout, which acts in the latter. batch_norm and activation hold for
    both MLPs; the two batch norms about the logarithmic neurons are always there.
    """

    neurons: int = 600
    neuron_units: tuple[int, ...] = (400, 400, 400)
    neuron_dropout: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "neuron_units", widths("neuron_units", self.neuron_units))
        if self.neurons < 1:
            raise SettingError(f"neurons is {self.neurons}; AFN needs at least 1 logarithmic neuron.")
        if self.loss not in LOSSES:
            raise SettingError(f"Loss '{self.loss}' compares states; AFN gives logits: {', '.join(LOSSES)}.")

    def neuron_mlp(self, in_width: int) -> MLP:
        """Return the MLP on the logarithmic neurons, from `in_width`."""
        rate = self.dropout if self.neuron_dropout is None else self.neuron_dropout
        return replace(self, hidden_units=self.neuron_units, dropout=rate).mlp(in_width, head=True)


class LogarithmicNeurons(nn.Module):
    r"""Field vectors (B, F, D) -> (B, D K): K products of powers of the fields, the powers learned.

    $$\tilde e_i = \mathrm{BN}_F\big(\ln \max(|e_i|, 10^{-5})\big),\qquad
      y_k = \mathrm{BN}_K\Big(\exp \sum_i w_{ki} \tilde e_i\Big) \in \mathbb R^D$$

    Batch norms take their statistics over batch and width, one for each field and one for each neuron. The output has
    all neurons of the first entry, then all of the second: every step is then one on B * D contiguous rows. The public
    library orders it by neuron, which only permutes the columns of the next map.

    Parameters: $FK + 2F + 2K$. Source: as for `AFN`.
    """

    def __init__(self, num_fields: int, neurons: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_fields, neurons, bias=False)
        self.log_norm = nn.BatchNorm1d(num_fields)
        self.norm = nn.BatchNorm1d(neurons)

    def forward(self, e_BFD: Tensor) -> Tensor:
        rows_NF = e_BFD.transpose(1, 2).flatten(0, 1)  # N = B * D
        log_NF = self.log_norm(rows_NF.abs().clamp(min=SMALLEST).log())
        out_NK: Tensor = self.norm(self.linear(log_NF).exp())
        return out_NK.view(len(e_BFD), -1)


class AFN(CTRModel):
    r"""Logits (B,), with $y$ the K logarithmic neurons and $x'$ the flattened vectors of a second table.

    $$z_{AFN} = \mathrm{MLP}(\mathrm{vec}(y_1 .. y_K)),\qquad z_{AFN+} = a\, z_{AFN} + b\, \mathrm{MLP}'(x') + c$$

    The second table reads ids, so logits come from ids and `interact` is not defined. Nothing random comes before the
    MLPs: several passes share the look-ups and the neurons, and part in the MLPs.

    Structure: ids -> (embedding -> logarithmic neurons [ln, map, exp] -> MLP | embedding [second table] -> MLP) ->
    weighted sum -> logit

    Parameters: $VD + FK + 2F + 2K$ and the MLP from $KD$; AFN+ has $VD$, the MLP from $d$ and 3 more.

    Source: Cheng, Shen, Huang, "Adaptive Factorization Network: Learning Adaptive-Order Feature Interactions", AAAI
    2020.

    Paper and code: The paper bounds magnitudes by $10^{-7}$, its authors' code by $10^{-4}$; the public library, which
    is followed here, by $10^{-5}$. For AFN+ the authors' code trains each part on a loss of its own and mixes the two
    without a gradient to them; here, as in the library, the loss of the mixed logit trains all. Defaults are the
    authors' for Frappe.
    """

    settings: AFNSettings

    def __init__(self, schema: Schema, settings: AFNSettings) -> None:
        super().__init__(schema, settings)
        self.neurons = LogarithmicNeurons(schema.num_fields, settings.neurons)
        self.neuron_mlp = settings.neuron_mlp(settings.neurons * settings.embedding_dim)
        self.second_embedding, self.mlp, self.mix = None, None, None
        if settings.hidden_units:
            self.second_embedding = FieldEmbedding(schema, settings.embedding_dim, settings.embedding_std)
            self.second_embedding.reset()  # from the seed of the weights
            self.mlp = settings.mlp(self.width, head=True)
            self.mix = LogitMap(2)
        reset_linear_maps(self)

    def inputs(self, ids: Tensor) -> list[Tensor]:
        """Return the input of each MLP."""
        inputs: list[Tensor] = [self.neurons(self.embedding(ids))]
        if self.second_embedding is not None:
            inputs.append(self.second_embedding(ids).flatten(1))
        return inputs

    def fused(self, inputs: list[Tensor]) -> Tensor:
        """Return the logits (B,) of one pass."""
        logits: Tensor = self.neuron_mlp(inputs[0])
        if self.mlp is None or self.mix is None:
            return logits
        mixed: Tensor = self.mix(torch.stack([logits, self.mlp(inputs[1])], dim=1))
        return mixed.squeeze(1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fused(self.inputs(ids))

    def training_loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        inputs = self.inputs(ids)
        logits_KB = torch.stack([self.fused(inputs) for _ in range(self.settings.passes)])
        return LOSSES[self.settings.loss](logits_KB, labels)


def build(name: str, schema: Schema, settings: AFNSettings) -> AFN:
    """Return AFN, or AFN+ when there are hidden units."""
    return AFN(schema, settings)
