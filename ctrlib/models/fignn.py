r"""FiGNN: fields as nodes of a graph that send each other messages."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.layers import LogitMap, reset_linear_maps
from ctrlib.models.base import CTRModel, ModelSettings


@dataclass(frozen=True)
class FiGNNSettings(ModelSettings):
    """graph_layers: L. gru: a gated recurrent unit updates the nodes; without it messages are added to them.

    residual: add the field vectors after every layer. shared_layer: all layers have the weights of one. The public
    code drops nothing in FiGNN, so dropout has no effect.
    """

    graph_layers: int = 3
    gru: bool = True
    residual: bool = True
    shared_layer: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.graph_layers < 1:
            raise SettingError(f"graph_layers is {self.graph_layers}; FiGNN needs at least 1.")


class GraphLayer(nn.Module):
    r"""Edge weights (B, F, F) and nodes (B, F, D) -> messages (B, F, D).

    $$a_i = W^{in}_i \sum_j g_{ij} W^{out}_j h_j + b$$

    Parameters: $2FD^2 + D$. Xavier-normal values are drawn for the stacked tensors; $b$ starts at zero. Source: as for
    `FiGNN`.
    """

    def __init__(self, num_fields: int, dim: int) -> None:
        super().__init__()
        self.outgoing = nn.Parameter(nn.init.xavier_normal_(torch.empty(num_fields, dim, dim)))
        self.incoming = nn.Parameter(nn.init.xavier_normal_(torch.empty(num_fields, dim, dim)))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, graph_BFF: Tensor, h_BFD: Tensor) -> Tensor:
        sent_BFD = torch.einsum("fkd,bfd->bfk", self.outgoing, h_BFD)
        return torch.einsum("fkd,bfd->bfk", self.incoming, graph_BFF @ sent_BFD) + self.bias


class EdgeWeights(nn.Module):
    r"""Field vectors (B, F, D) -> edge weights (B, F, F), rows that sum to 1 and a zero diagonal.

    $$g_{ij} = \operatorname{softmax}_{j \ne i} \mathrm{LeakyReLU}_{0.01}\big(w^\top [e_i \,\|\, e_j]\big)$$

    The score of an edge is a sum of one number for each of its ends, so no pair of vectors is ever joined. Parameters:
    $2D$. Source: as for `FiGNN`.
    """

    own: Tensor

    def __init__(self, num_fields: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * dim, 1, bias=False)
        self.register_buffer("own", torch.eye(num_fields, dtype=torch.bool), persistent=False)

    def forward(self, e_BFD: Tensor) -> Tensor:
        ends_BF2 = e_BFD @ self.linear.weight.view(2, -1).t()
        from_BF, to_BF = ends_BF2.unbind(dim=2)
        score_BFF = nn.functional.leaky_relu(from_BF[:, :, None] + to_BF[:, None, :])
        return torch.softmax(score_BFF.masked_fill(self.own, -torch.inf), dim=2)


class FiGNN(CTRModel):
    r"""Logits (B,). Nodes start as field vectors, $h^0 = E$; the edges weigh messages and are the same in all layers.

    $$a^l = \mathrm{Layer}_l(g, h^{l-1}),\qquad h^l = \mathrm{GRU}(a^l, h^{l-1}) + E \ \text{ or }\ a^l + h^{l-1} + E,$$
    $$z = \sum_i \sigma(U\, \mathrm{vec}\, h^L)_i \; w^\top h^L_i$$

    Structure: ids -> embedding -> {L layers: graph layer [messages] -> GRU -> sum [embedding]} -> (linear map [scores]
    | gate [of nodes]) -> product [summed] -> logit

    Parameters: $VD + L(2FD^2 + D) + 2D + D + Fd$, with the GRU $6D^2 + 6D$ more; $U \in \mathbb R^{F \times d}$ and $w$
    have no bias. The GRU keeps the framework's initial values, uniform within $1/\sqrt D$.

    Source: Li, Cui, Wu, Zhang, Wang, "Fi-GNN: Modeling Feature Interactions via Graph Neural Networks for CTR
    Prediction", CIKM 2019.

    Paper and code: In the paper a self-attention layer between the fields gives the nodes' first states. The public
    library, which is followed here, starts from the embedding.
    """

    settings: FiGNNSettings

    def __init__(self, schema: Schema, settings: FiGNNSettings) -> None:
        super().__init__(schema, settings)
        fields, dim = schema.num_fields, settings.embedding_dim
        if fields < 2:
            raise SettingError("FiGNN sends messages between fields: the data need at least 2 fields.")
        self.edges = EdgeWeights(fields, dim)
        layers = 1 if settings.shared_layer else settings.graph_layers
        self.layers = nn.ModuleList(GraphLayer(fields, dim) for _ in range(layers))
        self.gru = nn.GRUCell(dim, dim) if settings.gru else None
        self.score = LogitMap(dim, bias=False)
        self.attention = nn.Linear(self.width, fields, bias=False)
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        graph_BFF = self.edges(e_BFD)
        h_BFD = e_BFD
        for number in range(self.settings.graph_layers):
            message_BFD = self.layers[number % len(self.layers)](graph_BFF, h_BFD)
            h_BFD = self.updated(message_BFD, h_BFD)
            if self.settings.residual:
                h_BFD = h_BFD + e_BFD
        weight_BF = torch.sigmoid(self.attention(h_BFD.flatten(1)))
        score_BF: Tensor = self.score(h_BFD).squeeze(2)
        return (weight_BF * score_BF).sum(dim=1)

    def updated(self, message_BFD: Tensor, h_BFD: Tensor) -> Tensor:
        """Return the nodes' states after a message."""
        if self.gru is None:
            return message_BFD + h_BFD
        rows: Tensor = self.gru(message_BFD.flatten(0, 1), h_BFD.flatten(0, 1))  # (B * F, D)
        return rows.view_as(h_BFD)


def build(name: str, schema: Schema, settings: FiGNNSettings) -> FiGNN:
    """Return a FiGNN."""
    return FiGNN(schema, settings)
