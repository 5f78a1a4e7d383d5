r"""CL4CTR: a factorization machine or DeepFM whose embedding is trained by three more losses.

B batch, F fields, D embedding width, N features (kept tokens and OOV of all fields).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import Dropout, FeedForward, pair_sum, reset_linear_maps
from ctrlib.layers.dropout import kept
from ctrlib.models.deepfm import DeepFM, DeepFMSettings

MASKS = ("random", "feature", "dimension")
CONSTRAINTS = ("table", "batch")
SMALLEST_SQUARE = 1e-8  # added to a squared length: a zero vector has no direction and must get a finite gradient


@dataclass(frozen=True)
class CL4CTRSettings(DeepFMSettings):
    r"""hidden_units, batch_norm, activation, dropout: of the base model, DeepFM; without hidden units it is an FM.

    alpha: weight of the contrastive loss. beta: of alignment and uniformity. A loss of weight 0 is not computed.
    mask: what a mask sets to zero: single entries ("random"), whole fields ("feature") or one dimension of all fields
    ("dimension"). mask_rate: how much of it. encoder_layers, encoder_units, encoder_dropout: see `EncoderLayer`.
    constraints: whether alignment and uniformity compare all features of the "table" or those of the "batch".
    """

    alpha: float = 1.0
    beta: float = 0.01
    mask: str = "random"
    mask_rate: float = 0.5
    encoder_layers: int = 3
    encoder_units: int = 128
    encoder_dropout: float = 0.2
    constraints: str = "table"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask not in MASKS:
            raise unknown("mask", self.mask, MASKS)
        if self.constraints not in CONSTRAINTS:
            raise unknown("constraints", self.constraints, CONSTRAINTS)
        if self.encoder_layers < 1 or self.encoder_units < 1:
            raise SettingError("encoder_layers and encoder_units must be at least 1.")
        for setting in ("alpha", "beta"):
            if getattr(self, setting) < 0:
                raise SettingError(f"{setting} is {getattr(self, setting)}; the weight of a loss cannot be negative.")


class Mask(Dropout):
    """Field vectors (B, F, D) -> (B, F, D): while training, random parts become zero and the others stay as they are.

    kind: see `CL4CTRSettings.mask`. Every sample has a mask of its own.
    """

    def __init__(self, kind: str, rate: float) -> None:
        super().__init__(rate)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        batch, fields, dim = x.shape
        shape = {"random": (batch, fields, dim), "feature": (batch, fields, 1), "dimension": (batch, 1, dim)}[self.kind]
        words = self.words(shape, x.device)
        return x if words is None else x * kept(words, self.dropped_levels, x.dtype)


class EncoderLayer(nn.Module):
    r"""Field vectors (B, F, D) -> (B, F, D): a layer of a transformer with one head; the fields are the sequence.

    $$y = \mathrm{LN}\big(x + \mathrm{Drop}(W_o\, \mathrm{Drop}(\mathrm{softmax}(Q K^\top / \sqrt D))\, U)\big),\qquad
      x' = \mathrm{LN}\big(y + \mathrm{Drop}(W_2 \mathrm{Drop}(\mathrm{ReLU}(W_1 y)))\big)$$

    $Q$, $K$, $U$ are maps of x. All maps have a bias but that of $K$: the softmax cancels it. Parameters, with $h$ rows
    of $W_1$: $4D^2 + 3D + 2Dh + h + D + 4D$. Source: Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser,
    Polosukhin, "Attention Is All You Need", NeurIPS 2017.
    """

    def __init__(self, dim: int, units: int, dropout: float) -> None:
        super().__init__()
        self.query, self.value, self.joined = (nn.Linear(dim, dim) for _ in range(3))
        self.key = nn.Linear(dim, dim, bias=False)
        self.feed_forward = FeedForward(dim, units, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.dropout = Dropout(dropout)

    def forward(self, x_BFD: Tensor) -> Tensor:
        scores_BFF = self.query(x_BFD) @ self.key(x_BFD).mT / math.sqrt(x_BFD.shape[2])
        attention_BFF = self.dropout(torch.softmax(scores_BFF, dim=2))
        y = self.norms[0](x_BFD + self.dropout(self.joined(attention_BFF @ self.value(x_BFD))))
        return self.norms[1](y + self.dropout(self.feed_forward(y)))  # type: ignore[no-any-return]


def alignment(features: Sequence[Tensor]) -> Tensor:
    r"""Return the mean of $\|e_i - e_j\|^2$ over all pairs of features of one field.

    features: for each field its vectors (n, D). The distances of n vectors to each other add up to n times those to
    their mean, so no pair is formed. Without any pair the mean is 0.
    """
    total = torch.stack([len(e) * (e - e.mean(dim=0)).square().sum() for e in features]).sum()
    return total / max(1, sum(len(e) * (len(e) - 1) for e in features) // 2)


def directions(e: Tensor) -> Tensor:
    r"""Return $e / \sqrt{\|e\|^2 + 10^{-8}}$ for vectors (*, D)."""
    return e * torch.rsqrt(e.square().sum(dim=-1, keepdim=True) + SMALLEST_SQUARE)


def uniformity(features: Sequence[Tensor]) -> Tensor:
    r"""Return the mean cosine of $e_i$ and $e_j$ over all pairs of features of different fields.

    features: for each field its vectors (n, D). A sum over pairs of unit vectors is a product of the fields' sums.
    """
    sums_FD = torch.stack([directions(e).sum(dim=0) for e in features])
    counts = [len(e) for e in features]
    pairs = (sum(counts) ** 2 - sum(count**2 for count in counts)) // 2
    return pair_sum(sums_FD[None])[0] / max(1, pairs)


def row_uniformity(e_BFD: Tensor) -> Tensor:
    r"""Return the mean cosine over all pairs of different fields of one sample, and over samples."""
    return pair_sum(directions(e_BFD)).mean() / max(1, math.comb(e_BFD.shape[1], 2))


class CL4CTR(DeepFM):
    r"""Logits (B,) of the base model; the losses below act in training alone, and so do their random masks.

    $$\mathcal L = \mathcal L_{CTR} + \alpha \mathcal L_{cl} + \beta (\mathcal L_{ali} + \mathcal L_{uni}),\qquad
      \mathcal L_{cl} = \tfrac1B \sum \|h_1 - h_2\|^2,\quad h_k = W_k \mathrm{vec}(\Phi(M_k \odot E)) + b_k$$

    with two random masks $M_k$ and one encoder $\Phi$ of transformer layers. $\mathcal L_{ali}$ is the mean squared
    distance of two features of one field, $\mathcal L_{uni}$ the mean cosine of two features of different fields.

    Structure: ids -> (first order | embedding -> (inner products | MLP | random mask [twice] -> encoder -> contrastive
    loss | embedding loss)) -> sum -> logit

    Parameters: those of the base model, the encoder's, and $2(dD + D)$ for the projections.

    Source: Wang, Wang, Li, Gu, Lu, Zhang, Gu, "CL4CTR: A Contrastive Learning Framework for CTR Prediction", WSDM 2023.

    Paper and code: The paper sums alignment and uniformity over all pairs of features, rare and frequent ones alike; as
    in the public code they are means here, so that beta does not depend on the vocabulary. That code trains by default
    on the features of the batch, so frequent ones count more: `constraints="batch"`. There alignment compares the
    samples of a batch in each field, and uniformity the fields of each sample. The public code's axes mix the samples
    of a batch in the encoder, its uniformity compares a field with itself too, and a fourth encoder layer is never
    used; none of this is in the paper or here. Padding is no feature.
    """

    settings: CL4CTRSettings

    def __init__(self, schema: Schema, settings: CL4CTRSettings) -> None:
        super().__init__(schema, settings)
        s, dim = settings, settings.embedding_dim
        self.mask = Mask(s.mask, s.mask_rate)
        layers = [EncoderLayer(dim, s.encoder_units, s.encoder_dropout) for _ in range(s.encoder_layers)]
        self.encoder = nn.Sequential(*layers)
        self.projections = nn.ModuleList(nn.Linear(self.width, dim) for _ in range(2))
        reset_linear_maps(self.encoder)
        reset_linear_maps(self.projections)

    def contrastive(self, e_BFD: Tensor) -> Tensor:
        """Return the contrastive loss of two masked copies of the field vectors, a scalar."""
        views = torch.cat([self.mask(e_BFD), self.mask(e_BFD)])
        first, second = self.encoder(views).flatten(1).chunk(2)
        difference_BD = self.projections[0](first) - self.projections[1](second)
        loss: Tensor = difference_BD.square().sum(dim=1).mean()
        return loss

    def constraints(self, e_BFD: Tensor) -> Tensor:
        """Return alignment and uniformity, added, a scalar."""
        if self.settings.constraints == "batch":
            return alignment(e_BFD.unbind(dim=1)) + row_uniformity(e_BFD)
        features = [rows[1:] for rows in self.embedding.weight.split(list(self.schema.vocab_sizes))]
        return alignment(features) + uniformity(features)

    def training_loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        e_BFD = self.embedding(ids)
        loss = self.click_loss(ids, e_BFD, labels)
        if self.settings.alpha:
            loss = loss + self.settings.alpha * self.contrastive(e_BFD)
        if self.settings.beta:
            loss = loss + self.settings.beta * self.constraints(e_BFD)
        return loss


def build(name: str, schema: Schema, settings: CL4CTRSettings) -> CL4CTR:
    """Return a CL4CTR."""
    return CL4CTR(schema, settings)
