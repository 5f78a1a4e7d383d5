"""AutoInt and AutoInt+: self-attention between fields, alone or with an MLP."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.layers import FieldAttention, FirstOrder, LogitMap, reset_linear_maps
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import DNNSettings


@dataclass(frozen=True)
class AutoIntSettings(DNNSettings):
    """By default AutoInt+; without hidden units the MLP is left out, which gives AutoInt.

    attention_dim: A, a field's width in every attention layer, all heads together. residual, scaled, layer_norm:
    see `ctrlib.layers.FieldAttention`. wide: add a first-order term. dropout acts in the MLP and on the attention.
    """

    attention_layers: int = 3
    attention_dim: int = 64
    heads: int = 2
    residual: bool = True
    scaled: bool = False
    layer_norm: bool = False
    wide: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.attention_layers, self.attention_dim, self.heads) < 1:
            raise SettingError("attention_layers, attention_dim and heads must be at least 1.")


class AutoInt(CTRModel):
    r"""Logits (B,), with $E^L$ the fields after L attention layers.

    $$z = w^\top \mathrm{vec}(E^L) + b \;(+\, \mathrm{MLP}(x)) \;(+\, \textstyle\sum_f w_f)$$

    The stars and plus signs in the two papers' tables mean the form with the MLP.

    Structure: ids -> embedding -> ({L layers: attention} -> linear map | MLP) -> sum -> logit

    Parameters: $VD$; for each layer $3IA$, with a residual and $I \ne A$ also $IA$, with layer norm $2A$, where $I = D$
    first and $A$ then; $FA + 1$; the MLP of DNN; $V$ if wide.

    Source: Song, Shi, Xiao, Duan, Xu, Zhang, Tang, "AutoInt", CIKM 2019.

    Paper and code: The first public version allocated the residual map even where the residual was off; here it is not
    there.
    """

    def __init__(self, schema: Schema, settings: AutoIntSettings) -> None:
        super().__init__(schema, settings)
        self.attention = nn.Sequential(
            *(
                FieldAttention(
                    settings.embedding_dim if layer == 0 else settings.attention_dim,
                    settings.attention_dim,
                    settings.heads,
                    dropout=settings.dropout,
                    residual=settings.residual,
                    scaled=settings.scaled,
                    layer_norm=settings.layer_norm,
                )
                for layer in range(settings.attention_layers)
            )
        )
        self.head = LogitMap(schema.num_fields * settings.attention_dim)
        self.mlp = settings.mlp(self.width, head=True) if settings.hidden_units else None
        self.first_order = FirstOrder(schema, bias=False) if settings.wide else None
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        logits: Tensor = self.head(self.attention(e_BFD).flatten(1)).squeeze(1)
        return logits if self.mlp is None else logits + self.mlp(e_BFD.flatten(1))


def build(name: str, schema: Schema, settings: AutoIntSettings) -> AutoInt:
    """Return AutoInt, or AutoInt+ when there are hidden units."""
    return AutoInt(schema, settings)
