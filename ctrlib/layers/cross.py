"""The cross network of DCNv2."""

from __future__ import annotations

from torch import Tensor, nn

from ctrlib.layers.products import add_product


class CrossNetwork(nn.Module):
    r"""x_0 (B, d) -> x_L (B, d), a polynomial of degree L + 1 in x_0.

    $$x_{l+1} = x_0 \odot (W_l x_l + b_l) + x_l,\qquad W_l \in \mathbb R^{d \times d}$$

    Parameters: $L (d^2 + d)$. Source: Wang, Shivanna, Cheng, Jain, Lin, Hong, Chi, "DCN V2", The Web Conference
    2021, full-rank form. As a network of its own it is the format CrossNetV2 in `ctrlib.neurons`.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for layer in self.layers:
            x = add_product(x, x0, layer(x))
        return x
