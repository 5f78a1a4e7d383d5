"""Frappe_x1: app usage in context, in the split of Cheng et al. (2020) that both papers' benchmarks use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ctrlib.data.dataset import SPLITS
from ctrlib.data.schema import Field
from ctrlib.data.read import read_table

LABEL = "label"
FIELDS = tuple(Field(name) for name in (
    "user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"))


def read(files: Mapping[str, Path], split_seed: int) -> dict[str, pd.DataFrame]:
    """Read train.csv, valid.csv and test.csv; the split is published, so `split_seed` is not used."""
    return {split: read_table(files[f"{split}.csv"]) for split in SPLITS}
