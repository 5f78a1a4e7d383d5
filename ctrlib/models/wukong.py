r"""WuKong: stacked layers of factorization machines and linear maps over rows of field vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError
from ctrlib.layers import MLP, reset_linear_maps
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import DNNSettings, widths


@dataclass(frozen=True)
class WuKongSettings(DNNSettings):
    """layers: L. fmb_rows, lcb_rows: rows that a layer's factorization machine and its linear map give. rank: k.

    fmb_units: widths of the layers' MLPs. hidden_units, batch_norm: of the MLP on top. activation: of all MLPs. dropout
    acts in the layers' MLPs alone, as in the public code. layer_norm: normalise every row of a layer's output.

    The defaults are those of the public configuration; its embedding_dim is 64.
    """

    hidden_units: tuple[int, ...] = (512, 256)
    batch_norm: bool = True
    layers: int = 3
    fmb_rows: int = 40
    lcb_rows: int = 40
    rank: int = 8
    fmb_units: tuple[int, ...] = (512, 256)
    layer_norm: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "fmb_units", widths("fmb_units", self.fmb_units))
        if min(self.layers, self.fmb_rows, self.lcb_rows, self.rank) < 1:
            raise SettingError("layers, fmb_rows, lcb_rows and rank must be at least 1.")


class WuKongLayer(nn.Module):
    r"""Rows X (n, B, D) -> (n', B, D), $n' = n_F + n_L$. For one sample, with X (n, D):

    $$\mathrm{FMB} = \mathrm{ReLU}\big(V\,\mathrm{MLP}(\mathrm{LN}\,\mathrm{vec}(X X^\top Y)) + v\big),\quad
      \mathrm{LCB} = W_L X,\qquad
      X' = \mathrm{LN}_D\big([\mathrm{FMB} \,\|\, \mathrm{LCB}] + R(X)\big)$$

    $Y$ is n x k and cuts the $n^2$ inner products of rows to $nk$; R is the identity when $n = n'$, else a linear map
    over rows with a bias. Rows come first, so that a map over rows is one product with an (n, B * D) matrix.
    """

    def __init__(self, rows: int, dim: int, settings: WuKongSettings) -> None:
        super().__init__()
        out_rows, products = settings.fmb_rows + settings.lcb_rows, rows * settings.rank
        self.projection = nn.Parameter(torch.randn(rows, settings.rank))
        self.product_norm = nn.LayerNorm(products)
        self.mlp = MLP(products, settings.fmb_units, nonlinearity=settings.activation, dropout=settings.dropout)
        self.head = nn.Linear(self.mlp.out_width, settings.fmb_rows * dim)
        self.compress = nn.Linear(rows, settings.lcb_rows, bias=False)
        self.residual = nn.Linear(rows, out_rows) if rows != out_rows else None
        self.norm = nn.LayerNorm(dim) if settings.layer_norm else nn.Identity()

    def forward(self, x_nBD: Tensor) -> Tensor:
        rows, batch, dim = x_nBD.shape
        flat = x_nBD.reshape(rows, -1)  # (n, B * D)
        machine_BF = torch.relu(self.head(self.mlp(self.product_norm(self.products(x_nBD)))))
        machine = machine_BF.view(batch, -1, dim).transpose(0, 1).reshape(-1, batch * dim)
        joined = torch.cat([machine, self.compress.weight @ flat])
        joined = joined + (flat if self.residual is None else self.over_rows(self.residual, flat))
        out_nBD: Tensor = self.norm(joined.view(-1, batch, dim))
        return out_nBD

    def products(self, x_nBD: Tensor) -> Tensor:
        """Return the inner products of every row with k mixtures of the rows, (B, n * k)."""
        mixed_kBD = (self.projection.t() @ x_nBD.flatten(1)).view(-1, *x_nBD.shape[1:])
        return (x_nBD.transpose(0, 1) @ mixed_kBD.permute(1, 2, 0)).flatten(1)

    @staticmethod
    def over_rows(linear: nn.Linear, flat: Tensor) -> Tensor:
        """Return a linear map over the rows of (n, B * D)."""
        return torch.addmm(linear.bias[:, None], linear.weight, flat)


class WuKong(CTRModel):
    r"""Logits (B,) after L layers of rows; `WuKongLayer` has their equation.

    $$X^0 = E,\qquad X^l = \mathrm{Layer}_l(X^{l-1}),\qquad z = \mathrm{MLP}(\mathrm{vec}(X^L))$$

    Structure: ids -> embedding -> {L layers: (pass | (inner products [of rows] -> MLP | linear map [over rows]) ->
    concatenation) -> sum -> layer norm} -> MLP -> logit

    Parameters: $VD$; for each layer with $n$ rows and an MLP that ends $u$ wide $3nk + \mathrm{MLP}(nk) + (u + 1) n_F D
    + n n_L$, with layer norm $2D$ and where $n \ne n'$ also $(n + 1) n'$; the MLP on top from $n'D$ and its head.

    Source: Zhang, Luo, Chen, Nie, Liu, Li, Zhao, Hao, Yao, Wen, Park, Naumov, Chen, "Wukong: Towards a Scaling Law for
    Large-Scale Recommendation", ICML 2024.

    Paper and code: The paper's equation of FMB has no ReLU; the public library's code ends it with one and starts $Y$
    normal with standard deviation 1, and so do we.
    """

    def __init__(self, schema: Schema, settings: WuKongSettings) -> None:
        super().__init__(schema, settings)
        dim, out_rows = settings.embedding_dim, settings.fmb_rows + settings.lcb_rows
        rows = [schema.num_fields] + [out_rows] * (settings.layers - 1)
        self.layers = nn.Sequential(*(WuKongLayer(n, dim, settings) for n in rows))
        self.mlp = MLP(
            out_rows * dim,
            settings.hidden_units,
            nonlinearity=settings.activation,
            batch_norm=settings.batch_norm,
            head=True,
        )
        reset_linear_maps(self)

    def interact(self, e_BFD: Tensor) -> Tensor:
        x_nBD = self.layers(e_BFD.transpose(0, 1).contiguous())
        logits: Tensor = self.mlp(x_nBD.transpose(0, 1).flatten(1))
        return logits


def build(name: str, schema: Schema, settings: WuKongSettings) -> WuKong:
    """Return a WuKong."""
    return WuKong(schema, settings)
