r"""EDCN: a cross network and an MLP of equal depth that exchange what they know after every layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import ACTIVATIONS, MLP, LogitMap, reset_linear_maps
from ctrlib.models.base import CTRModel, ModelSettings


@dataclass(frozen=True)
class EDCNSettings(ModelSettings):
    """cross_layers: C, layers of both streams. activation, dropout: after the MLP's maps, which are d wide.

    bridge: how the streams are joined, see `BRIDGES`. regulation: gates weigh the fields before each layer, with a
    softmax at this temperature. residual: cross layers add their input, as in the paper and not in the public library.
    batch_norm: normalise the input of both streams in every layer. Every EDCN of the open benchmark has it; without it
    vectors that start near 1e-4 shrink with each gate and each product until nothing is learnt from them.
    """

    cross_layers: int = 3
    bridge: str = "product"
    regulation: bool = True
    temperature: float = 1.0
    residual: bool = False
    batch_norm: bool = True
    activation: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bridge not in BRIDGES:
            raise unknown("bridge", self.bridge, BRIDGES)
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.cross_layers < 1:
            raise SettingError(f"cross_layers is {self.cross_layers}; EDCN needs at least 1.")
        if not self.temperature > 0:
            raise SettingError(f"temperature is {self.temperature}; gates are divided by it, so it must be above 0.")


class Product(nn.Module):
    r"""$u = x \odot m$."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        return x * m


class Sum(nn.Module):
    r"""$u = x + m$."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        return x + m


class Concatenation(nn.Module):
    r"""$u = \mathrm{ReLU}(W [x \,\|\, m] + b)$. Parameters: $2d^2 + d$."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        return torch.relu(self.linear(torch.cat([x, m], dim=1)))


class Attention(nn.Module):
    r"""$u = a(x) \odot x + a(m) \odot m$ with $a(v) = \mathrm{softmax}(P\, \mathrm{ReLU}(W v + b))$ over the d entries.

    Parameters: $2d^2 + d$. The public library makes two such $a$ and uses the first for both; the other is not here.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        return self.weighed(x) + self.weighed(m)

    def weighed(self, v: Tensor) -> Tensor:
        """Return v (B, d) times its attention."""
        return torch.softmax(self.out(torch.relu(self.hidden(v))), dim=1) * v


BRIDGES: dict[str, type[Product] | type[Sum] | type[Concatenation] | type[Attention]] = {
    "product": Product,
    "sum": Sum,
    "concatenation": Concatenation,
    "attention": Attention,
}


class Regulation(nn.Module):
    r"""u (B, d) -> the inputs (B, d) of the cross layer and of the MLP's layer.

    $$x = \mathrm{BN}(\gamma^c \odot u),\quad m = \mathrm{BN}'(\gamma^m \odot u),\quad
      \gamma = \mathrm{softmax}(\theta / \tau) \in \mathbb R^F$$

    with one factor for each field, the same for all samples; $\theta$ starts at 1. Parameters: $2F$ with gates, $4d$
    with batch norms.
    """

    def __init__(self, num_fields: int, settings: EDCNSettings) -> None:
        super().__init__()
        self.dim, self.temperature = settings.embedding_dim, settings.temperature
        self.cross_gate, self.deep_gate = (
            nn.Parameter(torch.ones(num_fields)) if settings.regulation else None for _ in range(2)
        )
        width = num_fields * self.dim
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) if settings.batch_norm else nn.Identity() for _ in range(2))

    def forward(self, u: Tensor) -> list[Tensor]:
        gates = (self.cross_gate, self.deep_gate)
        return [norm(self.weighed(u, gate)) for norm, gate in zip(self.norms, gates, strict=True)]

    def weighed(self, u: Tensor, gate_F: Tensor | None) -> Tensor:
        """Return u with its fields weighed by a gate."""
        if gate_F is None:
            return u
        factor_F = torch.softmax(gate_F / self.temperature, dim=0)
        return u * factor_F[:, None].expand(-1, self.dim).flatten()


class EDCN(CTRModel):
    r"""Logits (B,). $u_0 = \mathrm{flatten}(E)$, and in layer $l = 1 .. C$, with $x_0$ the first $x$:

    $$(x, m) = \mathrm{Regulation}_l(u_{l-1}),\quad x_l = x_0\, (w_l^\top x) + b_l \;(+\, x),\quad
      m_l = \mathrm{Drop}\,\phi(W_l m + b'_l),\quad u_l = \mathrm{bridge}(x_l, m_l),$$
    $$z = w^\top [x_C \,\|\, m_C \,\|\, u_C] + b$$

    Structure: ids -> embedding -> {C layers: (gate [of fields] -> cross layer [rank one] | gate [of fields] -> MLP
    layer) -> product [bridge]} -> concatenation [streams, bridge] -> linear map -> logit

    Parameters: $VD + C(d^2 + d) + 2Cd + 3d + 1$, with gates $2CF$ more, with batch norm $4Cd$ more, and C bridges.

    Source: Chen, Wang, Liu, Tang, Guo, Zheng, Yao, Zhang, He, "Enhancing Explicit and Implicit Feature Interactions via
    Information Sharing for Parallel Deep CTR Models", CIKM 2021.

    Paper and code: The paper's cross layer adds its input $x$, and so does an early version of the public library; its
    later versions leave the input out, which is the default here.
    """

    settings: EDCNSettings

    def __init__(self, schema: Schema, settings: EDCNSettings) -> None:
        super().__init__(schema, settings)
        width, layers = self.width, range(settings.cross_layers)
        self.regulations = nn.ModuleList(Regulation(schema.num_fields, settings) for _ in layers)
        self.maps = nn.ModuleList(nn.Linear(width, 1, bias=False) for _ in layers)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(width)) for _ in layers)
        self.deep = nn.ModuleList(
            MLP(width, (width,), nonlinearity=settings.activation, dropout=settings.dropout) for _ in layers
        )
        self.bridges = nn.ModuleList(BRIDGES[settings.bridge](width) for _ in layers)
        self.head = LogitMap(3 * width)
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        x0, u = None, e_BFD.flatten(1)
        parts = zip(self.regulations, self.maps, self.biases, self.deep, self.bridges, strict=True)
        for regulation, linear, bias, mlp, bridge in parts:
            x, m = regulation(u)
            x0 = x if x0 is None else x0
            crossed = torch.addcmul(bias, x0, linear(x))
            x = crossed + x if self.settings.residual else crossed
            m = mlp(m)
            u = bridge(x, m)
        return self.head(torch.cat([x, m, u], dim=1)).squeeze(1)  # type: ignore[no-any-return]


def build(name: str, schema: Schema, settings: EDCNSettings) -> EDCN:
    """Return an EDCN."""
    return EDCN(schema, settings)
