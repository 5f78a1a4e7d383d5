"""From tables of text to id matrices.

The vocabulary of a field comes from the training split alone. Tokens seen at least `min_count` times are
kept and sorted as strings; local ids are 0 for padding, 1..K for the kept tokens and K+1 for
out-of-vocabulary (OOV). As in the reference preparation, an empty cell of a categorical field is OOV, and an
empty sequence is padding only.

Dimension letters: N samples, C id columns, U distinct cells of a column, K kept tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctrlib.data.buckets import fit_rule
from ctrlib.data.checks import read_labels, read_numbers
from ctrlib.data.dataset import SPLITS
from ctrlib.data.schema import Field, Schema
from ctrlib.errors import DataError

Ids = NDArray[np.int32]
Labels = NDArray[np.float32]
Times = NDArray[np.integer[Any]]  # how often each of some texts was seen, (U,)
Counts = dict[str, dict[str, int]]  # split -> field -> number


@dataclass(frozen=True)
class Encoded:
    """Arrays of the three splits, split -> (ids (N, C), labels (N,)), with what was counted on the way.

    oov      tokens outside the vocabulary, per split and field; a missing cell of a categorical field is one.
    missing  empty cells, per split and field.
    """

    schema: Schema
    arrays: dict[str, tuple[Ids, Labels]]
    oov: Counts
    missing: Counts


@dataclass(frozen=True)
class Column:
    """A column of N cells: its U distinct texts ("" for a missing cell) and the index of each cell's text."""

    texts: list[str]
    codes: NDArray[np.intp]

    @property
    def counts(self) -> NDArray[np.intp]:
        """How many cells have each text, (U,)."""
        return np.bincount(self.codes, minlength=len(self.texts))

    @property
    def missing(self) -> int:
        """How many cells are empty."""
        return sum(int(n) for text, n in zip(self.texts, self.counts, strict=True) if not text)


def encode(frames: Mapping[str, pd.DataFrame], fields: Sequence[Field], label: str, min_count: int) -> Encoded:
    """Encode the tables of the three splits, which `check_frame` has found good."""
    oov: Counts = {split: {} for split in SPLITS}
    missing: Counts = {split: {} for split in SPLITS}
    parts: dict[str, list[Ids]] = {split: [] for split in SPLITS}
    sizes: list[int] = []
    for field in fields:
        columns = read_columns(field, frames)
        vocabulary = build_vocabulary(field, columns["train"].texts, columns["train"].counts, min_count)
        for split, column in columns.items():
            local, oov[split][field.name] = local_ids(field, column, vocabulary)
            parts[split].append(local + np.int32(sum(sizes)))  # local id -> row of the shared table
            missing[split][field.name] = column.missing
        sizes.append(len(vocabulary) + 2)
    arrays = {
        split: (np.concatenate(parts[split], axis=1), read_labels(frames[split][label], f"{split} split"))
        for split in SPLITS
    }
    return Encoded(Schema(tuple(fields), tuple(sizes)), arrays, oov, missing)


def read_columns(field: Field, frames: Mapping[str, pd.DataFrame]) -> dict[str, Column]:
    """Return the field's cells in each split; its rule has turned numbers into tokens."""
    if field.kind != "numeric":
        return {split: text_column(frames[split][field.name]) for split in SPLITS}
    values = {split: read_numbers(frames[split][field.name], f"{split} split") for split in SPLITS}
    rule = fit_rule(str(field.buckets), values["train"])
    return {split: text_column(pd.Series(rule(values[split]))) for split in SPLITS}


def text_column(cells: pd.Series) -> Column:
    """Return the cells as text. A whole number has one text, 3.0 that of 3, whatever else its column holds."""
    try:
        codes, distinct = pd.factorize(cells)
    except TypeError as error:
        raise DataError(
            f"Field '{cells.name}' holds lists or other compound cells. Write a sequence as text, "
            f"its tokens separated by the field's splitter, for example by table['{cells.name}'].str.join(' ')."
        ) from error
    # Missing cells have code -1, which is the last text.
    texts = [*("" if pd.isna(value) else str(_whole(value)) for value in distinct), ""]
    return Column(texts, np.where(codes < 0, len(texts) - 1, codes))


def build_vocabulary(field: Field, texts: Sequence[str], times_seen: Times, min_count: int) -> dict[str, int]:
    """Return token -> local id 1..K for the tokens seen at least `min_count` times in the training split.

    texts: cells of the training split, with how often each was seen; a text may be listed more than once.
    """
    counts: Counter[str] = Counter()
    for text, times in zip(texts, times_seen, strict=True):
        for token in _tokens(field, text):
            counts[token] += int(times)
    kept = sorted(token for token, times in counts.items() if token and times >= min_count)
    return {token: index for index, token in enumerate(kept, start=1)}


def local_ids(field: Field, column: Column, vocabulary: Mapping[str, int]) -> tuple[Ids, int]:
    """Return the field's local ids (N, max_len), padded at the end, and how many of them are OOV."""
    oov = len(vocabulary) + 1
    table = np.zeros((len(column.texts), field.max_len), dtype=np.int32)  # (U, max_len)
    for row, text in enumerate(column.texts):
        found = [vocabulary.get(token, oov) for token in _tokens(field, text)[: field.max_len]]
        table[row, : len(found)] = found
    times = (table == oov).sum(axis=1) @ column.counts
    return table[column.codes], int(times)  # (U, max_len) -> (N, max_len)


def _tokens(field: Field, text: str) -> list[str]:
    if field.kind != "sequence":
        return [text]
    return [token for token in text.split(field.splitter) if token]


def _whole(value: Any) -> Any:
    # A column with one gap or fraction arrives as floats: 3.0 must be the token "3" of the other splits.
    if isinstance(value, float | np.floating) and abs(float(value)) < 2**53 and float(value).is_integer():
        return int(value)
    return value
