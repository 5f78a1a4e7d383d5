"""An encoded data set: three splits of ids and labels, the schema and a fingerprint.

Dimension letters: N samples, C id columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctrlib.data.schema import Schema

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Split:
    """Samples of one split: `ids` (N, C) int32 rows of the shared table, `labels` (N,) float32 of 0 and 1."""

    ids: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]

    def to(self, device: torch.device | str) -> Split:
        """Return the split with its tensors on `device`."""
        return Split(self.ids.to(device), self.labels.to(device))

    def take(self, n: int) -> Split:
        """Return the first `n` samples (all of them when there are fewer)."""
        return Split(self.ids[:n], self.labels[:n])


@dataclass(frozen=True)
class CTRDataset:
    """Train, validation and test split of one data set under one schema.

    `fingerprint` names the encoded content: equal fingerprints mean equal ids, labels, schema and settings.
    `notes` holds min_count, split_seed and rows as they were used, and per split and field the number of
    out-of-vocabulary tokens ("oov") and of missing cells ("missing").
    """

    name: str
    schema: Schema
    train: Split
    valid: Split
    test: Split
    fingerprint: str
    notes: dict[str, Any]

    @property
    def rows(self) -> dict[str, int]:
        """Number of samples of each split."""
        return {name: len(getattr(self, name)) for name in SPLITS}

    def to(self, device: torch.device | str) -> CTRDataset:
        """Return the data set with all tensors on `device`."""
        return replace(self, **{name: getattr(self, name).to(device) for name in SPLITS})


def fingerprint(
    name: str,
    settings: Mapping[str, Any],
    schema: Schema,
    arrays: Mapping[str, tuple[NDArray[np.int32], NDArray[np.float32]]],
) -> str:
    """Return 16 hex digits over name, settings, schema and the arrays split -> (ids (N, C), labels (N,))."""
    fields = [[f.name, f.kind, f.max_len, size] for f, size in zip(schema.fields, schema.vocab_sizes, strict=True)]
    digest = hashlib.sha256(json.dumps([name, dict(settings), fields], sort_keys=True).encode())
    for split in SPLITS:
        ids, labels = arrays[split]
        # Little-endian, so that the fingerprint does not depend on the processor.
        digest.update(f"{split} {ids.shape}".encode())
        digest.update(np.ascontiguousarray(ids, dtype="<i4").reshape(-1).data)  # no copy, for ids may fill a disk
        digest.update(np.ascontiguousarray(labels, dtype="<f4").data)
    return digest.hexdigest()[:16]
