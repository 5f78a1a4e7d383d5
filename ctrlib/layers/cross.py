"""The cross networks of DCN, DCNv2 and GDCN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctrlib.layers.products import add_product


class RankOneCrossNetwork(nn.Module):
    r"""x_0 (B, d) -> x_L (B, d), a polynomial of degree L + 1 in x_0.

    $$x_{l+1} = x_0\, (w_l^\top x_l) + b_l + x_l,\qquad w_l, b_l \in \mathbb R^d$$

    Every state is a multiple of $x_0$ plus a vector that is the same for all samples,
    $x_l = \alpha_l x_0 + \beta_l$ with
    $$\alpha_{l+1} = \alpha_l (1 + w_l^\top x_0) + w_l^\top \beta_l,\qquad \beta_{l+1} = \beta_l + b_l,\qquad
      \alpha_0 = 1,\ \beta_0 = 0,$$
    so one product of $x_0$ with all $w_l$ and L steps on one number per sample are enough.

    Parameters: $2Ld$. Source: Wang, Fu, Fu, Wang, "Deep & Cross Network for Ad Click Predictions", ADKDD 2017.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, 1, bias=False) for _ in range(layers))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(width)) for _ in range(layers))

    def forward(self, x0: Tensor) -> Tensor:
        weight_Ld = torch.cat(list(self.maps.parameters()))
        products = (x0 @ weight_Ld.t()).unbind(dim=1)  # (B,) for each layer
        alpha_B, beta_d = torch.ones_like(products[0]), torch.zeros_like(self.biases[0])
        for weight_d, product_B, bias in zip(weight_Ld, products, self.biases, strict=True):
            alpha_B = alpha_B + alpha_B * product_B + weight_d @ beta_d
            beta_d = beta_d + bias
        return torch.addcmul(beta_d, x0, alpha_B[:, None])


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


class GatedCrossNetwork(nn.Module):
    r"""x_0 (B, d) -> x_L (B, d): a cross network in which a gate weighs what each layer adds.

    $$x_{l+1} = x_0 \odot (W^c_l x_l + b_l) \odot \sigma(W^g_l x_l) + x_l$$

    Parameters: $L (2d^2 + d)$. $b_l$ starts uniform in (0, 1) and `reset_linear_maps` leaves it so, as in the public
    code. Source: Wang, Gu, Li, Lu, Zhang, Gu, "Towards Deeper, Lighter and Interpretable Cross Network for CTR
    Prediction", CIKM 2023.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.gates = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.biases = nn.ParameterList(nn.Parameter(torch.rand(width)) for _ in range(layers))

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for linear, gate, bias in zip(self.maps, self.gates, self.biases, strict=True):
            x = add_product(x, x0, (linear(x) + bias) * torch.sigmoid(gate(x)))
        return x
