"""The multilayer perceptron block that every deep model here uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from ctrlib.layers.dropout import Dropout
from ctrlib.layers.initial import activation
from ctrlib.layers.precision import LogitMap


class MLP(nn.Module):
    r"""x (B, h_0) -> (B, h_L), or with `head` -> logits (B,).

    $$h_l = \mathrm{Drop}\big(\phi(\mathrm{BN}(W_l h_{l-1} + b_l))\big),\qquad z = w^\top h_L + b$$

    Parameters: $\sum_l (h_{l-1} + 1) h_l$, with batch norm $2 \sum_l h_l$ more, with the head $h_L + 1$ more.

    widths: $h_1 .. h_L$; none leaves x as it is. nonlinearity: a name in `ACTIVATIONS`. Raises `SettingError` for
    an unknown one. linear: makes the map from one width to the next, where it is not a plain linear one.
    """

    def __init__(
        self,
        in_width: int,
        widths: Sequence[int],
        *,
        nonlinearity: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        head: bool = False,
        linear: Callable[[int, int], nn.Module] = nn.Linear,
    ) -> None:
        super().__init__()
        sizes = [in_width, *widths]
        self.out_width = sizes[-1]
        self.linears = nn.ModuleList(linear(a, b) for a, b in pairwise(sizes))
        norm = nn.BatchNorm1d if batch_norm else nn.Identity
        self.norms = nn.ModuleList(norm(width) for width in widths)
        self.activations = nn.ModuleList(activation(nonlinearity) for _ in widths)
        for act in self.activations:
            if isinstance(act, nn.ReLU):
                act.inplace = True  # what comes in is a map's or a norm's own output, which no other part reads
        self.dropout = Dropout(dropout)
        self.head = LogitMap(self.out_width) if head else None

    def forward(self, x: Tensor) -> Tensor:
        for linear, norm, act in zip(self.linears, self.norms, self.activations, strict=True):
            x = self.dropout(act(norm(linear(x))))
        return x if self.head is None else self.head(x).squeeze(1)
