"""Interactions of pairs of fields."""

from __future__ import annotations

from torch import Tensor


def pair_sum(e_BFD: Tensor) -> Tensor:
    r"""Return the second-order term of a factorization machine: (B, F, D) -> logits (B,).

    $$\sum_{i<j} \langle e_i, e_j \rangle
      = \tfrac12 \sum_k \Big[\big(\textstyle\sum_i e_{ik}\big)^2 - \sum_i e_{ik}^2\Big]$$

    It has no parameters and costs $O(FD)$. Source: Rendle, "Factorization Machines", ICDM 2010.
    """
    square_of_sum_BD = e_BFD.sum(dim=1).square()
    sum_of_squares_BD = e_BFD.square().sum(dim=1)
    return 0.5 * (square_of_sum_BD - sum_of_squares_BD).sum(dim=1)
