"""xDeepFM: a compressed interaction network (CIN), an MLP and a first-order term."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.layers import CIN, FirstOrder, reset_linear_maps
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import DNNSettings, widths


@dataclass(frozen=True)
class XDeepFMSettings(DNNSettings):
    """cin_units: feature maps of each CIN layer, a tuple or a list. Without hidden units the MLP is left out."""

    cin_units: tuple[int, ...] = (16, 16)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "cin_units", widths("cin_units", self.cin_units))
        if not self.cin_units:
            raise SettingError("cin_units is empty; xDeepFM needs at least one CIN layer. Without one it is a DNN.")


class XDeepFM(CTRModel):
    r"""Logits (B,).

    $$z = \sum_f w_f + \mathrm{CIN}(E) + \mathrm{MLP}(x)$$

    The first-order term has no bias.

    Structure: ids -> (first order | embedding -> (CIN | MLP)) -> sum -> logit

    Parameters: those of DNN, $V$, and the CIN's $\sum_k (F N_{k-1} + 1) N_k + \sum_k N_k + 1$.

    Source: Lian, Zhou, Zhang, Chen, Xie, Sun, "xDeepFM", KDD 2018.

    Paper and code: `ctrlib.layers.CIN` tells where the public code's CIN is not the paper's. The DS-MLP authors'
    configurations name its maps `cin_layer_units`, which their class does not read: there the CIN is always [16, 16,
    16].
    """

    def __init__(self, schema: Schema, settings: XDeepFMSettings) -> None:
        super().__init__(schema, settings)
        self.first_order = FirstOrder(schema, bias=False)
        self.cin = CIN(schema.num_fields, settings.cin_units)
        self.mlp = settings.mlp(self.width, head=True) if settings.hidden_units else None
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        logits: Tensor = self.cin(e_BFD)
        return logits if self.mlp is None else logits + self.mlp(e_BFD.flatten(1))


def build(name: str, schema: Schema, settings: XDeepFMSettings) -> XDeepFM:
    """Return an xDeepFM."""
    return XDeepFM(schema, settings)
