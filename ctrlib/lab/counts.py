"""Weights of networks without their embedding tables, for comparison with printed and logged totals.

What is left without the tables depends on the number of fields and not on a vocabulary, so any schema will do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ctrlib.data import Field, Schema
from ctrlib.models import build_model


def plain_schema(fields: int, ids: int = 2) -> Schema:
    """Return a schema of categorical fields f0, f1, ... with so many ids each, padding and unknown values included."""
    return Schema(tuple(Field(f"f{number}") for number in range(fields)), (ids,) * int(fields))


def weights(module: nn.Module) -> int:
    """Return the number of a module's weights, embedding and first-order tables left out."""
    return sum(p.numel() for name, p in module.named_parameters() if "embedding" not in name)


def counted(name: str, fields: int, **settings: Any) -> int:
    """Return `weights` of a model of the registry, counted without memory for them.

    Raises `SettingError` for an unknown model or setting.
    """
    with torch.device("meta"):
        return weights(build_model(name, plain_schema(fields), **settings))
