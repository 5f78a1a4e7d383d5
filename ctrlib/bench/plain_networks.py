"""The measured systems in plain PyTorch, as a reader would write them first. No import from ctrlib or a peer.

x (B, d) -> logit (B, 1). Equations: see `ctrlib.models`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


class T9(nn.Module):
    """Layers x * W(x) + x and one affine map."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        for linear in self.maps:
            x = x * linear(x) + x
        out: Tensor = self.head(x)
        return out


def mlp(width: int, hidden: list[int]) -> nn.Sequential:
    """Linear and ReLU in turn."""
    widths = [width, *hidden]
    parts: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        parts += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*parts)


class DCNv2(nn.Module):
    """A cross network beside an MLP."""

    def __init__(self, width: int, hidden: list[int], layers: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.mlp = mlp(width, hidden)
        self.head = nn.Linear(width + hidden[-1], 1)

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for linear in self.maps:
            x = x0 * linear(x) + x
        out: Tensor = self.head(torch.cat([x, self.mlp(x0)], dim=-1))
        return out


class QNNAlpha(nn.Module):
    """The released layer with one head: map, batch norm, ReLU, dropout, product with every row, sum over rows."""

    def __init__(self, width: int, rows: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.rows = rows
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Linear(width, rows * width), nn.BatchNorm1d(rows * width), nn.ReLU(), nn.Dropout(dropout))
            for _ in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        for gate in self.gates:
            product = x.unsqueeze(1) * gate(x).view(len(x), self.rows, -1)  # (B, R, d), as in the released layer
            x = self.dropout(product.sum(dim=1) + x)
        out: Tensor = self.head(x)
        return out


def network(system: dict[str, Any], num_fields: int) -> nn.Module:
    """Return the network of a system for `num_fields` fields."""
    width, settings = num_fields * system["width"], system["settings"]
    match system["name"]:
        case "T9":
            return T9(width, settings["layers"])
        case "DNN":
            return nn.Sequential(mlp(width, settings["hidden_units"]), nn.Linear(settings["hidden_units"][-1], 1))
        case "DCNv2":
            return DCNv2(width, settings["hidden_units"], settings["cross_layers"])
        case "QNN-alpha":
            return QNNAlpha(width, settings["rows"], settings["layers"], 0.1)
    raise ValueError(f"no plain form of {system['name']}")


def self_ensemble(p1: Tensor, p2: Tensor, y: Tensor) -> Tensor:
    """The loss over two passes, on probabilities as the released code has it."""
    mean = (p1 + p2) / 2
    bce = nn.functional.binary_cross_entropy
    return bce(mean, y) + bce(p1, mean.detach()) + bce(p2, mean.detach())
