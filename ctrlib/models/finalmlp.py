r"""FinalMLP: two MLPs with gated inputs and a bilinear form of their outputs. DualMLP: the two MLPs alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import MLP, FieldEmbedding, LogitMap, reset_linear_maps
from ctrlib.losses import LOSSES
from ctrlib.models.base import CTRModel
from ctrlib.models.dnn import DNNSettings, widths

Contexts = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class FinalMLPSettings(DNNSettings):
    """hidden_units, second_units: widths of the two streams' MLPs. second_dropout: of stream 2; None: as dropout.

    gates: weigh each stream's input. gate_units: widths of the gates' MLPs, which have a ReLU and no dropout.
    contexts: for each of the two gates the names of the fields that it reads. bilinear: add the bilinear form.
    heads: H, the pieces into which the form cuts both outputs. activation and batch_norm hold for both streams.
    """

    second_units: tuple[int, ...] = (800,)
    second_dropout: float | None = None
    gates: bool = True
    gate_units: tuple[int, ...] = (800,)
    contexts: Contexts = ((), ())
    bilinear: bool = True
    heads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("second_units", "gate_units"):
            object.__setattr__(self, name, widths(name, getattr(self, name)))
        object.__setattr__(self, "contexts", _two_lists(self.contexts))
        if any(self.contexts) and not self.gates:
            raise SettingError("contexts are what the gates read: set gates to True or leave contexts out.")
        if self.heads < 1 or (self.heads > 1 and not self.bilinear):
            raise SettingError(f"heads is {self.heads}; it must be at least 1, and 1 without the bilinear form.")
        if self.loss not in LOSSES:
            raise SettingError(f"Loss '{self.loss}' compares states; FinalMLP gives logits: {', '.join(LOSSES)}.")

    def second_mlp(self, in_width: int) -> MLP:
        """Return stream 2's MLP, from `in_width`."""
        rate = self.dropout if self.second_dropout is None else self.second_dropout
        return replace(self, hidden_units=self.second_units, dropout=rate).mlp(in_width, head=False)


@dataclass(frozen=True)
class DualMLPSettings(FinalMLPSettings):
    """As for FinalMLP, but by default with neither gates nor the bilinear form."""

    gates: bool = False
    bilinear: bool = False


def _two_lists(values: Any) -> Contexts:
    """Return two lists of names as tuples; raise `SettingError` for anything else."""
    pair = values if isinstance(values, (list, tuple)) else ()
    if len(pair) != 2 or not all(isinstance(names, (list, tuple)) for names in pair):
        raise SettingError(f"contexts is {values!r}; give a list of names for each of the two gates: (('user',), ()).")
    return tuple(pair[0]), tuple(pair[1])


class FeatureGate(nn.Module):
    r"""ids (B, C) -> factors (B, d), or (1, d) without context fields: $g = 2 \sigma(\mathrm{MLP}(c))$.

    $c$ holds the vectors of the context fields, from a table of the gate's own. Without any it is a learned vector of
    width D that starts at zero. Then all hidden units are zero too, the ReLU passes no gradient back, and the gate
    learns its last bias alone: d factors that are the same for every sample.

    Parameters: D for each row of that table, or D; $\sum_l (h_{l-1} + 1) h_l + (h_L + 1) d$, and $c$ is $h_0$ wide.
    """

    columns: Tensor
    shifts: Tensor

    def __init__(self, schema: Schema, fields: tuple[str, ...], settings: FinalMLPSettings) -> None:
        super().__init__()
        dim = settings.embedding_dim
        self.embedding, self.context = None, None
        if fields:
            own, columns, shifts = _part(schema, fields)
            self.embedding = FieldEmbedding(own, dim, settings.embedding_std)
            self.embedding.reset()  # from the seed of the weights
            self.register_buffer("columns", torch.tensor(columns), persistent=False)
            self.register_buffer("shifts", torch.tensor(shifts), persistent=False)
        else:
            self.context = nn.Parameter(torch.zeros(1, dim))
        self.mlp = MLP(dim * max(1, len(fields)), settings.gate_units)
        self.head = nn.Linear(self.mlp.out_width, dim * schema.num_fields)

    def forward(self, ids: Tensor) -> Tensor:
        context = self.context
        if self.embedding is not None:
            context = self.embedding(ids.index_select(1, self.columns) - self.shifts).flatten(1)
        return 2.0 * torch.sigmoid(self.head(self.mlp(context)))


def _part(schema: Schema, fields: tuple[str, ...]) -> tuple[Schema, list[int], list[int]]:
    """Return a schema of some fields, their id columns, and by how much the ids of each column are lower there."""
    names = [field.name for field in schema.fields]
    for name in fields:
        if name not in names:
            raise unknown("context field", name, names)
    places = [names.index(name) for name in fields]
    own = Schema(tuple(schema.fields[k] for k in places), tuple(schema.vocab_sizes[k] for k in places))
    columns: list[int] = []
    shifts: list[int] = []
    for k, offset in zip(places, own.offsets, strict=True):
        start, stop = schema.columns[k]
        columns += range(start, stop)
        shifts += [schema.offsets[k] - offset] * (stop - start)
    return own, columns, shifts


class BilinearHeads(nn.Module):
    r"""u (B, m) and v (B, n) -> (B,): $\sum_h u^{(h)\top} W_h v^{(h)}$, both cut into H pieces.

    Parameters: $mn / H$, kept as one column, because Xavier-normal values are drawn for that shape. Raises
    `SettingError` unless H divides both m and n.
    """

    def __init__(self, first: int, second: int, heads: int) -> None:
        super().__init__()
        if first % heads or second % heads:
            raise SettingError(f"The streams end {first} and {second} wide; {heads} heads do not divide both.")
        self.shape = (heads, first // heads, second // heads)
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(first * second // heads, 1)))

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        heads = self.shape[0]
        u_HBm = u.reshape(len(u), heads, -1).transpose(0, 1)  # (H, B, m / H)
        v_HBn = v.reshape(len(v), heads, -1).transpose(0, 1)
        return (u_HBm @ self.weight.view(self.shape) * v_HBn).sum(dim=(0, 2))


class FinalMLP(CTRModel):
    r"""Logits (B,), with $x$ of width $d$, gates $g_s$ and streams $s = 1, 2$ that end $m$ and $n$ wide.

    $$o_s = \mathrm{MLP}_s(g_s \odot x),\qquad
      z = w_1^\top o_1 + b_1 + w_2^\top o_2 + b_2 + \sum_h o_1^{(h)\top} W_h o_2^{(h)}$$

    A gate reads ids, so logits come from ids and `interact` is not defined. Gates have no dropout: several passes share
    the look-ups and the gates, and part in the MLPs.

    Structure: ids -> embedding -> (gate -> MLP [stream 1] | gate -> MLP [stream 2]) -> (linear map | bilinear form) ->
    sum -> logit

    Parameters: $VD$, the two MLPs, $m + 1 + n + 1$, $mn / H$ for the bilinear form, and those of two `FeatureGate`.

    Source: Mao, Zhu, Su, Cai, Li, Dong, "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", AAAI 2023.

    Paper and code: Without context fields a gate of the public code, and so of this one, learns its last bias alone;
    see `FeatureGate`. The DS-MLP authors' configurations have dropout of 0.2 to 0.4 in the MLPs of the baseline and
    none in those of the teacher.
    """

    settings: FinalMLPSettings

    def __init__(self, schema: Schema, settings: FinalMLPSettings) -> None:
        super().__init__(schema, settings)
        contexts = settings.contexts if settings.gates else ()
        self.gates = nn.ModuleList(FeatureGate(schema, fields, settings) for fields in contexts)
        first, second = settings.mlp(self.width, head=False), settings.second_mlp(self.width)
        self.mlps = nn.ModuleList([first, second])
        self.heads = nn.ModuleList(LogitMap(mlp.out_width) for mlp in (first, second))
        self.bilinear = BilinearHeads(first.out_width, second.out_width, settings.heads) if settings.bilinear else None
        reset_linear_maps(self)

    def inputs(self, ids: Tensor) -> list[Tensor]:
        """Return each stream's input (B, d)."""
        x = self.embedding(ids).flatten(1)
        return [gate(ids) * x for gate in self.gates] or [x, x]

    def fused(self, inputs: list[Tensor]) -> Tensor:
        """Return the logits (B,) of one pass."""
        first, second = (mlp(x) for mlp, x in zip(self.mlps, inputs, strict=True))
        logits: Tensor = (self.heads[0](first) + self.heads[1](second)).squeeze(1)
        return logits if self.bilinear is None else logits + self.bilinear(first, second)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fused(self.inputs(ids))

    def training_loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        inputs = self.inputs(ids)
        logits_KB = torch.stack([self.fused(inputs) for _ in range(self.settings.passes)])
        return LOSSES[self.settings.loss](logits_KB, labels)


class DualMLP(FinalMLP):
    r"""Logits (B,) of two MLPs on one embedding: FinalMLP with neither gates nor the bilinear form.

    $$z = w_1^\top \mathrm{MLP}_1(x) + b_1 + w_2^\top \mathrm{MLP}_2(x) + b_2$$

    Structure: ids -> embedding -> (MLP [stream 1] -> linear map | MLP [stream 2] -> linear map) -> sum -> logit

    Parameters: $VD$, the two MLPs, and $m + 1 + n + 1$ where they end $m$ and $n$ wide.

    Source: as for `FinalMLP`, whose authors compare with it.

    Paper and code: None that we know.
    """


def build(name: str, schema: Schema, settings: FinalMLPSettings) -> FinalMLP:
    """Return a FinalMLP, or a DualMLP, whose settings have by default neither gates nor the bilinear form."""
    return DualMLP(schema, settings) if name == "DualMLP" else FinalMLP(schema, settings)
