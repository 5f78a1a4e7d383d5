r"""RFM: fields as angles, turned by an attention between them.

B batch, F fields, D embedding width, I and A a field's width before and after a rotation, H heads, W = A/H.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.layers import Dropout, LogitMap, reset_linear_maps
from ctrlib.models.base import CTRModel, ModelSettings
from ctrlib.models.dnn import widths

ROTATION_GAIN = math.sqrt(2.0)


@dataclass(frozen=True)
class RFMSettings(ModelSettings):
    """rotations: L layers. rotation_width: A. heads: H. residual: add the embedding's own cosines and sines.

    amplifier_units: widths of the amplification layers, a tuple or a list; none leaves amplification out.
    group_width: entries that share one mean and variance after an amplification layer; it divides their widths.
    dropout: in the rotations. amplifier_dropout: before each amplification layer; None: as dropout.
    """

    rotations: int = 2
    rotation_width: int = 48
    heads: int = 1
    residual: bool = True
    amplifier_units: tuple[int, ...] = (128,)
    group_width: int = 16
    amplifier_dropout: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "amplifier_units", widths("amplifier_units", self.amplifier_units))
        if min(self.rotations, self.rotation_width, self.heads, self.group_width) < 1:
            raise SettingError("rotations, rotation_width, heads and group_width must be at least 1.")
        if self.rotation_width % self.heads:
            raise SettingError(
                f"A rotation_width of {self.rotation_width} cannot be cut into {self.heads} heads of equal width."
            )
        if any(width % self.group_width for width in self.amplifier_units):
            raise SettingError(
                f"group_width is {self.group_width}; it must divide each of amplifier_units {self.amplifier_units}."
            )


class Rotation(nn.Module):
    r"""Angles (B, F, I) -> (B, F, A), with maps $Q_f, K_f, U_f$ of each field's own.

    For fields f and g and the W angles k of one head,
    $$s_{fg} = \sigma\Big(\sum_k \omega_k \cos(q_{fk} - k_{gk})\Big),\qquad
      \theta'_f = \mathrm{LN}\Big(\big[\textstyle\sum_g s_{fg} \mathrm{Drop}(u_g)\big]_{heads}
      + R\, \mathrm{Drop}(\theta_f)\Big)$$

    Parameters: $3FIA + IA + 2A + A/H$. The maps start Xavier-normal with gain $\sqrt 2$, drawn as in the public code
    for the shape (F, I, A) of all fields together.
    """

    def __init__(self, num_fields: int, in_width: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Parameter(torch.empty(num_fields, in_width, width)) for _ in range(3))
        self.weight = nn.Parameter(torch.empty(1, width // heads))
        self.residual = nn.Linear(in_width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.reset()

    def reset(self) -> None:
        """Draw the initial values of all maps."""
        for value in (self.query, self.key, self.value, self.weight, self.residual.weight):
            nn.init.xavier_normal_(value, gain=ROTATION_GAIN)

    def forward(self, angles_BFI: Tensor) -> Tensor:
        fields, batch = angles_BFI.shape[1], len(angles_BFI)
        maps = torch.stack([self.query, self.key, self.value])  # (3, F, I, A)
        mapped = (angles_BFI.transpose(0, 1) @ maps).reshape(
            3, fields, batch * self.heads, -1
        )  # a row is a sample's head
        q, k, u = mapped.transpose(1, 2)  # (BH, F, W) each
        # cos(q - k) = cos q cos k + sin q sin k, so the sum over k is two products of matrices.
        scores = torch.cos(q) * self.weight @ torch.cos(k).mT + torch.sin(q) * self.weight @ torch.sin(k).mT
        turned = torch.sigmoid(scores) @ self.dropout(u)  # (BH, F, W)
        turned_BFA = turned.unflatten(0, (batch, self.heads)).transpose(1, 2).flatten(2)
        return self.norm(turned_BFA + self.residual(self.dropout(angles_BFI)))  # type: ignore[no-any-return]


class Amplifier(nn.Module):
    r"""Real and imaginary part, (B, a) each -> (B, c) each, by one map for both.

    $$r' = \mathrm{LN}\big(\mathrm{ReLU}(W\, \mathrm{Drop}(r) + b)\big),\qquad
      p' = \mathrm{LN}'\big(\mathrm{ReLU}(W\, \mathrm{Drop}(p) + b)\big)$$

    The norms act on groups of g entries and share their 2g weights between groups. Parameters: $(a + 1) c + 4g$.
    """

    def __init__(self, in_width: int, width: int, group_width: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(in_width, width)
        self.real_norm, self.imaginary_norm = nn.LayerNorm(group_width), nn.LayerNorm(group_width)
        self.dropout = Dropout(dropout)

    def forward(self, r: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        return self._amplified(r, self.real_norm), self._amplified(p, self.imaginary_norm)

    def _amplified(self, part: Tensor, norm: nn.LayerNorm) -> Tensor:
        out_Bc = torch.relu(self.linear(self.dropout(part)))
        groups: Tensor = norm(out_Bc.unflatten(1, (-1, norm.normalized_shape[0])))  # (B, c / g, g)
        return groups.flatten(1)


class RFM(CTRModel):
    r"""Logits (B,), with angles $\Theta^L$ after L rotations of $\Theta^0 = E$.

    $$r = \mathrm{LN}\big(\cos \Theta^L + \cos(PE + c)\big),\quad
      p = \mathrm{LN}'\big(\sin \Theta^L + \sin(PE + c)\big),\quad z = w^\top r' + w^\top p' + 2b$$

    Without `residual`, $r = \cos \Theta^L$ and $p = \sin \Theta^L$. $r'$ and $p'$ are $r$ and $p$, flattened, after the
    amplification layers.

    Structure: ids -> embedding -> ({L layers: rotation [attention]} -> cosine and sine | linear map -> cosine and sine)
    -> sum -> layer norm -> amplifier -> linear map -> logit

    Parameters: $VD$, those of the rotations and amplification layers, with residual $(D + 1) A + 4A$, and the last
    width and 1.

    Source: Tian, Shi, Wu, Zhao, Wen, "Rotative Factorization Machines", KDD 2024.

    Paper and code: The public code multiplies attention and values along axes that differ in size unless F = A/H; here
    it is the sum over fields of the equation. $P$ and the amplification maps start with standard deviation 0.01, as
    there. Its Xavier-normal embedding is replaced by the one that all models here start from.
    """

    settings: RFMSettings

    def __init__(self, schema: Schema, settings: RFMSettings) -> None:
        super().__init__(schema, settings)
        s, fields = settings, schema.num_fields
        before = [s.embedding_dim, *[s.rotation_width] * (s.rotations - 1)]
        rotations = [Rotation(fields, width, s.rotation_width, s.heads, s.dropout) for width in before]
        self.rotations = nn.Sequential(*rotations)
        self.projection = nn.Linear(s.embedding_dim, s.rotation_width) if s.residual else None
        self.real_norm = nn.LayerNorm(s.rotation_width) if s.residual else nn.Identity()
        self.imaginary_norm = nn.LayerNorm(s.rotation_width) if s.residual else nn.Identity()
        rate = s.dropout if s.amplifier_dropout is None else s.amplifier_dropout
        sizes = [fields * s.rotation_width, *s.amplifier_units]
        amplifiers = [Amplifier(a, c, s.group_width, rate) for a, c in zip(sizes, s.amplifier_units, strict=False)]
        self.amplifiers = nn.ModuleList(amplifiers)
        self.head = LogitMap(sizes[-1])
        reset_linear_maps(self)
        for rotation in rotations:
            rotation.reset()
        for linear in [self.projection, *(amplifier.linear for amplifier in amplifiers)]:
            if linear is not None:
                nn.init.normal_(linear.weight, std=0.01)

    def interact(self, e_BFD: Tensor) -> Tensor:
        angles_BFA = self.rotations(e_BFD)
        r, p = torch.cos(angles_BFA), torch.sin(angles_BFA)
        if self.projection is not None:
            first_BFA = self.projection(e_BFD)
            r, p = r + torch.cos(first_BFA), p + torch.sin(first_BFA)
        r, p = self.real_norm(r).flatten(1), self.imaginary_norm(p).flatten(1)
        for amplifier in self.amplifiers:
            r, p = amplifier(r, p)
        logits: Tensor = self.head(r + p) + self.head.bias  # one head on both parts: its bias twice
        return logits.squeeze(1)


def build(name: str, schema: Schema, settings: RFMSettings) -> RFM:
    """Return an RFM."""
    return RFM(schema, settings)
