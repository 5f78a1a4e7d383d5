"""Self-attention between fields, as AutoInt uses it.

B batch, F fields, I input width of a field, A output width, H heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ctrlib.errors import SettingError
from ctrlib.layers.dropout import Dropout


class FieldAttention(nn.Module):
    r"""x (B, F, I) -> (B, F, A).

    $$\mathrm{head}_h = \mathrm{Drop}\big(\mathrm{softmax}(Q_h K_h^\top / s)\big)\, U_h,\qquad
      x' = \mathrm{ReLU}\big(\mathrm{LN}(\mathrm{head}_1 \,\|\, \dots \,\|\, \mathrm{head}_H + x W_{res})\big)$$

    with $Q, K, U = x W_q, x W_k, x W_u$ cut into H pieces of width A/H, and $s = \sqrt{A/H}$ when `scaled`, else 1.
    $W_{res}$ is the identity when I = A.

    Parameters: $3IA$, with a residual $IA$ more when $I \ne A$, with layer norm $2A$ more. Source: Song, Shi, Xiao,
    Duan, Xu, Zhang, Tang, "AutoInt", CIKM 2019. Scale and layer norm are options of the public code that the paper
    does not have. Raises `SettingError` when A is no multiple of H.
    """

    def __init__(
        self,
        in_width: int,
        width: int,
        heads: int,
        *,
        dropout: float = 0.0,
        residual: bool = True,
        scaled: bool = False,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise SettingError(f"An attention width of {width} cannot be cut into {heads} heads of equal width.")
        self.heads = heads
        self.scale = math.sqrt(width // heads) if scaled else 1.0
        self.query, self.key, self.value = (nn.Linear(in_width, width, bias=False) for _ in range(3))
        self.residual: nn.Module | None = None
        if residual:
            self.residual = nn.Identity() if in_width == width else nn.Linear(in_width, width, bias=False)
        self.norm = nn.LayerNorm(width) if layer_norm else nn.Identity()
        self.dropout = Dropout(dropout)

    def forward(self, x_BFI: Tensor) -> Tensor:
        q, k, u = (self._cut(part(x_BFI)) for part in (self.query, self.key, self.value))
        attention_BHFF = self.dropout(torch.softmax(q @ k.transpose(2, 3) / self.scale, dim=3))
        out_BFA = (attention_BHFF @ u).transpose(1, 2).flatten(2)
        if self.residual is not None:
            out_BFA = out_BFA + self.residual(x_BFI)
        return torch.relu(self.norm(out_BFA))

    def _cut(self, x_BFA: Tensor) -> Tensor:
        """Return the heads' pieces, (B, H, F, A/H)."""
        pieces: Tensor = x_BFA.unflatten(2, (self.heads, -1))
        return pieces.transpose(1, 2)
