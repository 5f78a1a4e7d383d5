r"""DNN: an MLP on the flattened embedding, and what models with an MLP beside other parts share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import ACTIVATIONS, MLP, reset_linear_maps
from ctrlib.models.base import CTRModel, ModelSettings


@dataclass(frozen=True)
class DNNSettings(ModelSettings):
    """hidden_units: widths of the MLP's layers, a tuple or a list. batch_norm, activation: after each of its maps."""

    hidden_units: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = False
    activation: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "hidden_units", widths("hidden_units", self.hidden_units))
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)

    def mlp(self, in_width: int, *, head: bool) -> MLP:
        """Return the MLP that these settings describe, from `in_width`."""
        return self.mlp_of(in_width, self.hidden_units, head=head)

    def mlp_of(self, in_width: int, units: tuple[int, ...], *, head: bool = False) -> MLP:
        """Return an MLP of other widths, otherwise as these settings say."""
        return MLP(
            in_width,
            units,
            nonlinearity=self.activation,
            batch_norm=self.batch_norm,
            dropout=self.dropout,
            head=head,
        )


def widths(name: str, values: Any) -> tuple[int, ...]:
    """Return a list of layer widths as a tuple; raise `SettingError` for anything else."""
    if not isinstance(values, (list, tuple)) or not all(isinstance(width, int) and width >= 1 for width in values):
        raise SettingError(f"{name} is {values!r}; give a list of layer widths such as (400, 400).")
    return tuple(values)


class DNN(CTRModel):
    r"""Logits (B,).

    $$z = \mathrm{MLP}(x),\qquad x = \mathrm{flatten}(E) \in \mathbb R^d$$

    Structure: ids -> embedding -> MLP -> logit

    Parameters: $VD + \sum_l (h_{l-1} + 1) h_l + h_L + 1$ with $h_0 = d$, and $2 \sum_l h_l$ with batch norm.

    Source: Covington, Adams, Sargin, "Deep Neural Networks for YouTube Recommendations", RecSys 2016, as the two papers
    cite it: the network on the embeddings alone, with a logit in place of the softmax over videos.

    Paper and code: The QNN-alpha paper has two such networks on Criteo. The count in its Table 1 fits three layers of
    400; the figures of its Table 3 are those of the open benchmark, with five layers of 1,000.
    """

    def __init__(self, schema: Schema, settings: DNNSettings) -> None:
        super().__init__(schema, settings)
        self.mlp = settings.mlp(self.width, head=True)
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        logits: Tensor = self.mlp(e_BFD.flatten(1))
        return logits


def build(name: str, schema: Schema, settings: DNNSettings) -> DNN:
    """Return a DNN."""
    return DNN(schema, settings)
