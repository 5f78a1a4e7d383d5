"""Data sets as integer ids: schema, encoding, loaders and cache."""

from ctrlib.data.cards import Card
from ctrlib.data.dataset import CTRDataset, Split
from ctrlib.data.load import DATASETS, cards, describe, load_dataset
from ctrlib.data.schema import Field, Schema
from ctrlib.data.table import load_table

__all__ = [
    "DATASETS",
    "CTRDataset",
    "Card",
    "Field",
    "Schema",
    "Split",
    "cards",
    "describe",
    "load_dataset",
    "load_table",
]
