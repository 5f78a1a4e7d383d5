"""The gradient of an embedding table on a CPU: every looked-up row's gradient is added where it belongs.

Compiled by numba. Rows are added in the order of the batch, as the framework adds them, so the bits are the same. The
framework is slow where the embedding width is no multiple of its vector registers' length; these loops are not.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _add_rows(ids: NDArray[Any], gradient: NDArray[Any], table: NDArray[Any]) -> None:
    for b in range(ids.shape[0]):
        for c in range(ids.shape[1]):
            row = ids[b, c]
            for d in range(table.shape[1]):
                table[row, d] += gradient[b, c, d]


def table_gradient(ids: Tensor, gradient: Tensor, rows: int) -> Tensor:
    """Return the gradient (V, D) of a table of V `rows` from that of the rows (B, C, D) looked up by ids (B, C)."""
    table = gradient.new_zeros(rows, gradient.shape[-1])
    _add_rows(np.ascontiguousarray(ids.numpy()), np.ascontiguousarray(gradient.numpy()), table.numpy())
    return table
