"""Data sets as integer ids: schema, encoding, loaders, cache, synthetic data, and data larger than the device."""

from ctrlib.data.batches import Batches, batches_of
from ctrlib.data.cards import Card
from ctrlib.data.dataset import CTRDataset, Split
from ctrlib.data.load import DATASETS, cards, describe, load_dataset, read_raw
from ctrlib.data.schema import Field, Schema
from ctrlib.data.stream import StreamedSplit, open_streamed, save_streamed
from ctrlib.data.synthetic import criteo_shaped, synthetic_dataset
from ctrlib.data.table import load_table, table_encoder

__all__ = [
    "DATASETS",
    "Batches",
    "CTRDataset",
    "Card",
    "Field",
    "Schema",
    "Split",
    "StreamedSplit",
    "batches_of",
    "cards",
    "criteo_shaped",
    "describe",
    "load_dataset",
    "load_table",
    "open_streamed",
    "read_raw",
    "save_streamed",
    "synthetic_dataset",
    "table_encoder",
]
