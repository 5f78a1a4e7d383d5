"""Data sets as integer ids: schema, encoding, loaders and caches."""

from ctrlib.data.dataset import CTRDataset, Split
from ctrlib.data.load import load_dataset
from ctrlib.data.schema import Field, Schema

__all__ = ["CTRDataset", "Field", "Schema", "Split", "load_dataset"]
