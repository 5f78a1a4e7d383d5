"""The compressed interaction network of xDeepFM.

B batch, F fields, D embedding width, N_k feature maps of layer k (N_0 = F).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctrlib.layers.precision import LogitMap


class CIN(nn.Module):
    r"""Field vectors (B, F, D) -> logits (B,).

    With $X^0 = E$, map n of layer k weighs every product of a field and a map of the layer before:
    $$X^k_n = \sum_{i=1}^{F} \sum_{m=1}^{N_{k-1}} \omega^k_{nim}\, (X^0_i \odot X^{k-1}_m) + \beta^k_n,\qquad
      z = w^\top \big[s^1 \,\|\, \dots \,\|\, s^K\big] + b,\quad s^k_n = \sum_j X^k_{nj}$$

    Parameters: $\sum_k (F N_{k-1} + 1) N_k + \sum_k N_k + 1$. Source: Lian, Zhou, Zhang, Chen, Xie, Sun,
    "xDeepFM", KDD 2018. As in the public code there is a bias, no activation between the layers, and every map
    goes both to the output and to the next layer.
    """

    def __init__(self, num_fields: int, maps: Sequence[int]) -> None:
        super().__init__()
        before = [num_fields, *maps[:-1]]
        self.layers = nn.ModuleList(nn.Linear(num_fields * n, out) for n, out in zip(before, maps, strict=True))
        self.head = LogitMap(sum(maps))

    def forward(self, e_BFD: Tensor) -> Tensor:
        x0_BDF = e_BFD.transpose(1, 2)  # maps last: a layer is then one matrix product over B * D rows
        x_BDN, sums = x0_BDF, []
        for layer in self.layers:
            products = x0_BDF[:, :, :, None] * x_BDN[:, :, None, :]  # (B, D, F, N)
            x_BDN = layer(products.flatten(2))
            sums.append(x_BDN.sum(dim=1))
        logits: Tensor = self.head(torch.cat(sums, dim=1))
        return logits.squeeze(1)
