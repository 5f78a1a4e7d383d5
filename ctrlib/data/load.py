"""`load_dataset`: from the name of a data set to encoded splits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ctrlib.data import frappe
from ctrlib.data.dataset import CTRDataset, Split, fingerprint
from ctrlib.data.encode import encode
from ctrlib.data.splits import subset


def load_dataset(name: str, *, min_count: int | None = None, split_seed: int = 2024,
                 rows: int | None = None) -> CTRDataset:
    folder = Path(os.environ["CTRLIB_DATA"]) / name
    frames = frappe.read({f.name: f for f in folder.iterdir()}, split_seed)
    if rows is not None:
        frames = subset(frames, rows, split_seed)
    min_count = 2 if min_count is None else min_count
    settings: dict[str, Any] = {"min_count": min_count, "rows": rows,
                                "split_seed": None if rows is None else split_seed}
    encoded = encode(frames, frappe.FIELDS, frappe.LABEL, min_count)
    splits = {s: Split(torch.from_numpy(ids), torch.from_numpy(labels)) for s, (ids, labels) in encoded.arrays.items()}
    mark = fingerprint(name, settings, encoded.schema, encoded.arrays)
    notes = {**settings, "oov": encoded.oov, "missing": encoded.missing}
    return CTRDataset(name, encoded.schema, **splits, fingerprint=mark, notes=notes)
