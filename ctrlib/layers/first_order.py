"""The first-order term: one weight for each row of the table."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.layers.embedding import FieldEmbedding


class FirstOrder(nn.Module):
    r"""ids (B, C) -> logits (B,), a logistic regression on the features.

    $$z = b + \sum_{c} w_{\mathrm{id}_c}$$

    Parameters: $V$, with the bias $V + 1$. A multi-valued field adds the weights of all its ids that are not
    padding: their sum, also where the embedding takes the mean. The public library that both papers build on does the
    same. Source: Richardson, Dominowska, Ragno, "Predicting Clicks", WWW 2007.

    The weights are an embedding of width 1, so that they are regularised like one. They start with its usual standard
    deviation of 1e-4; a model's embedding_std is not for them.
    """

    padding: Tensor

    def __init__(self, schema: Schema, bias: bool = True) -> None:
        super().__init__()
        self.embedding = FieldEmbedding(schema, 1)
        self.bias = nn.Parameter(torch.zeros(1)) if bias else None
        owners = zip(schema.fields, schema.offsets, strict=True)
        # the id that counts for nothing in each column, -1 where there is none
        padding = [start if field.max_len > 1 else -1 for field, start in owners for _ in range(field.max_len)]
        self.register_buffer("padding", torch.tensor(padding), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        weight_BC = self.embedding.rows(ids).squeeze(2)
        if not self.embedding.schema.is_flat:
            weight_BC = weight_BC * (ids != self.padding)
        logits_B = weight_BC.sum(dim=1)
        return logits_B if self.bias is None else logits_B + self.bias
