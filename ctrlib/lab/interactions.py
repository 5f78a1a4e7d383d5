r"""How strongly two fields interact in a model, measured as categorical fields allow.

The DS-MLP paper measures interaction by a mixed second derivative (Eq. 12). A ReLU MLP's logit is piecewise linear, so
that is 0 almost everywhere, whatever the network has learnt. Between values of two fields a second *difference* always
exists:

$$I_{ij}(f) = \mathbb E\big|f(a, b) - f(a', b) - f(a, b') + f(a', b')\big|$$

with $a, a'$ two values of field $i$ and $b, b'$ two of field $j$, the other fields held. It is 0 for every sum of
functions of single fields. `second_derivatives` measures Eq. 12 itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ctrlib.data import Schema

PAIRS_OF_ROWS = 512


@torch.no_grad()
def interaction_map(
    outputs: Callable[[Tensor], Tensor], ids: Tensor, schema: Schema, *, rows: int = PAIRS_OF_ROWS, seed: int = 0
) -> Tensor:
    """Return $I_{ij}$ of each output, (O, F, F), symmetric with a zero diagonal, in the outputs' unit.

    outputs: ids (B, C) -> values (O, B). ids: (N, C) real rows; `rows` pairs of them are drawn, the first gives $a, b$
    and the other fields, the second $a', b'$. The seed fixes the pairs, so maps of two models are compared on the same.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(len(ids), (rows,), generator=generator) for _ in range(2)]
    first, second = (ids[part.to(ids.device)] for part in drawn)
    base = outputs(first)
    count = schema.num_fields
    single = torch.stack([outputs(_with(first, second, schema, (i,))) for i in range(count)])  # (F, O, B)
    found = torch.zeros(base.shape[0], count, count, dtype=base.dtype, device=base.device)
    for i, j in combinations(range(count), 2):
        both = outputs(_with(first, second, schema, (i, j)))
        found[:, i, j] = found[:, j, i] = (base - single[i] - single[j] + both).abs().mean(dim=1)
    return found


def _with(first: Tensor, second: Tensor, schema: Schema, fields: tuple[int, ...]) -> Tensor:
    """Return the first rows with some fields' columns from the second."""
    mixed = first.clone()
    for number in fields:
        start, stop = schema.columns[number]
        mixed[:, start:stop] = second[:, start:stop]
    return mixed


def likeness(a_FF: Tensor, b_FF: Tensor) -> float:
    """Return the correlation of two maps over pairs of fields, in [-1, 1]."""
    above = torch.triu_indices(a_FF.shape[0], a_FF.shape[1], offset=1)
    values = torch.stack([a_FF[above[0], above[1]], b_FF[above[0], above[1]]])
    return float(torch.corrcoef(values)[0, 1])


@dataclass(frozen=True)
class SecondDerivatives:
    """mean: (F, F) mean absolute mixed derivative of pairs of fields, zero diagonal. zero: share that is exactly 0."""

    mean: Tensor
    zero: float


def second_derivatives(outputs: Callable[[Tensor], Tensor], e_BFD: Tensor, step: float = 1e-8) -> SecondDerivatives:
    """Measure Eq. 12 by autograd: how the gradient changes when one coordinate of an embedding moves by `step`.

    outputs: field vectors (B, F, D) -> values (B,), both in float64. A difference of exact gradients: the gradient of a
    ReLU network's gradient is 0 by construction and would show nothing. The step is small, since a ReLU that switches
    within it counts as a jump divided by the step.
    """
    base = e_BFD.detach()
    fields, width = base.shape[1:]
    total, zeros = base.new_zeros(fields, fields), 0
    for i in range(fields):
        others = [j for j in range(fields) if j != i]
        for k in range(width):
            moved = torch.zeros_like(base)
            moved[:, i, k] = step / 2
            change = (_gradient(outputs, base + moved) - _gradient(outputs, base - moved)) / step
            total[i] += change.abs().mean(dim=(0, 2))
            zeros += int((change[:, others] == 0).sum())
    mean = total / width
    mean.fill_diagonal_(0.0)
    return SecondDerivatives(mean, zeros / (base.numel() * width * (fields - 1)))


def _gradient(outputs: Callable[[Tensor], Tensor], e_BFD: Tensor) -> Tensor:
    e_BFD = e_BFD.requires_grad_()
    return torch.autograd.grad(outputs(e_BFD).sum(), e_BFD)[0]
