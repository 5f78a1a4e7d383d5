"""Factorization machines: FM, FwFM, FmFM and AFM."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import (
    Dropout,
    FieldEmbedding,
    FirstOrder,
    LogitMap,
    WeightedPairs,
    pair_products,
    pair_sum,
    reset_linear_maps,
)
from ctrlib.layers.pairwise import FORMS
from ctrlib.models.base import CTRModel, ModelSettings
from ctrlib.models.linear import OnePassModel, OnePassSettings


@dataclass(frozen=True)
class FMSettings(OnePassSettings):
    """embedding_dim: D. Nothing is dropped: dropout has no effect."""


class FM(CTRModel):
    r"""Logits (B,).

    $$z = b + \sum_f w_f + \sum_{i<j} \langle e_i, e_j \rangle$$

    It is DeepFM without its MLP.

    Structure: ids -> (first order | embedding -> inner products) -> sum -> logit

    Parameters: $VD + V + 1$.

    Source: Rendle, "Factorization Machines", ICDM 2010.

    Paper and code: None that we know.
    """

    def __init__(self, schema: Schema, settings: FMSettings) -> None:
        super().__init__(schema, settings)
        self.first_order = FirstOrder(schema)

    def interact(self, e_BFD: Tensor) -> Tensor:
        return pair_sum(e_BFD)


LINEAR_TYPES = ("LW", "FeLV", "FiLV")


@dataclass(frozen=True)
class FwFMSettings(OnePassSettings):
    """linear: the linear term, "LW", "FeLV" or "FiLV" (see `FwFM`). Nothing is dropped: dropout has no effect."""

    linear: str = "FiLV"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.linear not in LINEAR_TYPES:
            raise unknown("linear term", self.linear, LINEAR_TYPES)


class FwFM(OnePassModel):
    r"""Logits (B,), with one weight $r_{ij}$ for each pair of fields and a linear term $\ell$.

    $$z = b + \ell + \sum_{i<j} r_{ij} \langle e_i, e_j \rangle,\qquad
      \ell_{LW} = \sum_f w_f,\quad \ell_{FeLV} = \sum_i \langle e_i, v_i \rangle,\quad
      \ell_{FiLV} = \sum_i \langle e_i, u_i \rangle$$

    LW has a weight $w_f$ and FeLV a vector $v_i$ for each feature, from a second table; FiLV has a vector $u_i$ for
    each field.

    FeLV looks up a second table by ids, so `interact` is not defined.

    Structure: ids -> embedding -> (linear map [a vector a field] | inner products [a weight a pair]) -> sum -> logit

    Parameters: $VD + P + 1$ and for the linear term $V$, $VD$ or $FD$, with $P = F(F-1)/2$.

    Source: Pan, Xu, Ruiz, Zhao, Pan, Sun, Lu, "Field-weighted Factorization Machines for Click-Through Rate Prediction
    in Display Advertising", WWW 2018.

    Paper and code: FiLV is the public library's default; which linear term the open benchmark found best differs from
    set to set. The DS-MLP paper speaks of FwFM's results, but its Table 4 has FmFM alone.
    """

    settings: FwFMSettings

    def __init__(self, schema: Schema, settings: FwFMSettings) -> None:
        super().__init__(schema, settings)
        self.pairs = WeightedPairs(schema.num_fields, settings.embedding_dim, "scalar")
        self.bias = nn.Parameter(torch.zeros(1))
        self.first_order = FirstOrder(schema, bias=False) if settings.linear == "LW" else None
        self.feature_embedding: FieldEmbedding | None = None
        self.field_vectors: nn.Linear | None = None
        if settings.linear == "FeLV":
            self.feature_embedding = FieldEmbedding(schema, settings.embedding_dim, settings.embedding_std)
            self.feature_embedding.reset()  # from the seed of the weights
        elif settings.linear == "FiLV":
            self.field_vectors = LogitMap(self.width, bias=False)
        reset_linear_maps(self)

    def forward(self, ids: Tensor) -> Tensor:
        e_BFD = self.embedding(ids)
        logits = self.add_first_order(ids, self.pairs(e_BFD) + self.bias)
        if self.feature_embedding is not None:
            logits = logits + (e_BFD * self.feature_embedding(ids)).sum(dim=(1, 2))
        if self.field_vectors is not None:
            logits = logits + self.field_vectors(e_BFD.flatten(1)).squeeze(1)
        return logits


@dataclass(frozen=True)
class FmFMSettings(OnePassSettings):
    """form: of the weights, "scalar", "vectorized" or "matrixed" (see `FmFM`). dropout has no effect."""

    form: str = "matrixed"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in FORMS:
            raise unknown("form", self.form, FORMS)


class FmFM(CTRModel):
    r"""Logits (B,), with a matrix $M_{ij}$ for each pair of fields.

    $$z = b + \sum_f w_f + \sum_{i<j} e_i^\top M_{ij}\, e_j$$

    "matrixed": any $D \times D$ matrix. "vectorized": $M_{ij} = \mathrm{diag}(m_{ij})$, which the paper calls FvFM.
    "scalar": $M_{ij} = r_{ij} I$, which is FwFM with its linear term LW.

    Structure: ids -> (first order | embedding -> bilinear products [a matrix a pair]) -> sum -> logit

    Parameters: $VD + V + 1$ and $PD^2$, $PD$ or $P$, with $P = F(F-1)/2$.

    Source: Sun, Pan, Zhang, Flores, "FM2: Field-matrixed Factorization Machines for Recommender Systems", The Web
    Conference 2021.

    Paper and code: The paper also gives each field a width of its own, with matrices that are not square; the public
    code, and this one, have one width.
    """

    def __init__(self, schema: Schema, settings: FmFMSettings) -> None:
        super().__init__(schema, settings)
        self.first_order = FirstOrder(schema)
        self.pairs = WeightedPairs(schema.num_fields, settings.embedding_dim, settings.form)

    def interact(self, e_BFD: Tensor) -> Tensor:
        logits: Tensor = self.pairs(e_BFD)
        return logits


@dataclass(frozen=True)
class AFMSettings(ModelSettings):
    """attention_dim: A. dropout: of the attention. pooled_dropout: of the pooled vector; None: as dropout."""

    attention_dim: int = 10
    pooled_dropout: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention_dim < 1:
            raise SettingError(f"attention_dim is {self.attention_dim}; the attention needs a width of at least 1.")


class PairAttention(nn.Module):
    r"""Products of pairs p (B, P, D) -> their weighted sum (B, D).

    $$a = \mathrm{softmax}_{ij}\big(h^\top \mathrm{ReLU}(W p_{ij} + c)\big),\qquad
      s = \mathrm{Drop}_2\Big(\sum_{i<j} \mathrm{Drop}_1(a_{ij})\, p_{ij}\Big)$$

    Parameters: $DA + 2A$.
    """

    def __init__(self, dim: int, width: int, dropout: float, pooled_dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, width)
        self.score = nn.Linear(width, 1, bias=False)
        self.dropout = Dropout(dropout)
        self.pooled_dropout = Dropout(pooled_dropout)

    def forward(self, p_BPD: Tensor) -> Tensor:
        # Rows are many and both widths small. With the weights copied as (D, A) and the scores as a product with a
        # vector, a step with A = 128 takes half of the time that two linear maps take on a CPU.
        weight_DA = self.hidden.weight.t().contiguous()
        hidden_NA = torch.addmm(self.hidden.bias, p_BPD.flatten(0, 1), weight_DA).relu_()  # N = B * P
        scores_BP = (hidden_NA @ self.score.weight[0]).view(p_BPD.shape[:2])
        a_BP = self.dropout(torch.softmax(scores_BP, dim=1))
        pooled_BD: Tensor = self.pooled_dropout((a_BP[:, None] @ p_BPD).squeeze(1))
        return pooled_BD


class AFM(CTRModel):
    r"""Logits (B,), with the pooled products $s$ of `PairAttention` over all $p_{ij} = e_i \odot e_j$.

    $$z = b + \sum_f w_f + w_p^\top s$$

    Structure: ids -> (first order | embedding -> pair products -> attention [over pairs] -> linear map) -> sum -> logit

    Parameters: $VD + V + 1 + DA + 2A + D$.

    Source: Xiao, Ye, He, Zhang, Wu, Chua, "Attentional Factorization Machines", IJCAI 2017.

    Paper and code: The paper drops out the products $p_{ij}$; the public code, and this one, the attention and the
    pooled vector. An option of the public code turns the attention off, which leaves FM.
    """

    def __init__(self, schema: Schema, settings: AFMSettings) -> None:
        super().__init__(schema, settings)
        if schema.num_fields < 2:
            raise SettingError(f"AFM weighs pairs of fields: it needs at least 2 fields, not {schema.num_fields}.")
        pooled = settings.dropout if settings.pooled_dropout is None else settings.pooled_dropout
        self.first_order = FirstOrder(schema)
        self.attention = PairAttention(settings.embedding_dim, settings.attention_dim, settings.dropout, pooled)
        self.head = LogitMap(settings.embedding_dim, bias=False)
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        logits: Tensor = self.head(self.attention(pair_products(e_BFD))).squeeze(1)
        return logits


def build_fm(name: str, schema: Schema, settings: FMSettings) -> FM:
    """Return an FM."""
    return FM(schema, settings)


def build_fwfm(name: str, schema: Schema, settings: FwFMSettings) -> FwFM:
    """Return an FwFM."""
    return FwFM(schema, settings)


def build_fmfm(name: str, schema: Schema, settings: FmFMSettings) -> FmFM:
    """Return an FmFM."""
    return FmFM(schema, settings)


def build_afm(name: str, schema: Schema, settings: AFMSettings) -> AFM:
    """Return an AFM."""
    return AFM(schema, settings)
