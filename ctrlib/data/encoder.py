"""What a training table taught an encoding, kept so that rows met later get the same ids.

`encode` turns three tables into ids at once and forgets how. A model that is to be used needs the vocabularies
again: `Encoder` holds them, as plain lists that JSON can keep.

Dimension letters: N samples, C id columns, K kept tokens.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ctrlib.data.buckets import Values, edges_of, rule_between
from ctrlib.data.checks import check_columns, check_count, read_numbers
from ctrlib.data.encode import Column, Ids, build_vocabulary, local_ids, text_column
from ctrlib.data.schema import Field, Schema
from ctrlib.errors import DataError, unknown

ENOUGH = 10  # rows; in fewer it is no wonder when all values of a field are new


@dataclass(frozen=True)
class Encoder:
    """Tables -> ids, by the tokens and bucket edges that a training table taught.

    tokens: of each field, the kept ones in the order of their local ids 1..K. edges: of each field, the values between
    the buckets of a quantile rule, else empty. Anything else that is met is out-of-vocabulary.
    """

    fields: tuple[Field, ...]
    tokens: tuple[tuple[str, ...], ...]
    edges: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(cls, train: pd.DataFrame, fields: Sequence[Field], min_count: int = 1) -> Encoder:
        """Learn from a training table; tokens seen less often than `min_count` are out-of-vocabulary.

        Raises `DataError` for an absent column, no rows, or a cell of a numeric field that is no finite number.
        """
        _check(train, fields, "training rows")
        tokens, edges = [], []
        for field in fields:
            values = _numbers(field, train, "training rows")
            edges.append(edges_of(str(field.buckets), values) if field.kind == "numeric" else np.empty(0))
            column = _column(field, train, edges[-1], "training rows")
            tokens.append(tuple(build_vocabulary(field, column.texts, column.counts, min_count)))
        return cls(tuple(fields), tuple(tokens), tuple(tuple(part.tolist()) for part in edges))

    @cached_property
    def schema(self) -> Schema:
        """The fields with the sizes of their vocabularies, padding and out-of-vocabulary included."""
        return Schema(self.fields, tuple(len(tokens) + 2 for tokens in self.tokens))

    def ids(self, table: pd.DataFrame, where: str = "rows") -> Ids:
        """Return the ids (N, C) of a table with these fields; raises `DataError` as `fit` does.

        Warns of a field all of whose values are out-of-vocabulary. Lists without an entry have no value.
        """
        _check(table, self.fields, where)
        parts = []
        for number, field in enumerate(self.fields):
            column = _column(field, table, np.array(self.edges[number]), where)
            local, oov = local_ids(field, column, self._vocabularies[number])
            if len(table) >= ENOUGH and oov and oov == np.count_nonzero(local):
                warnings.warn(
                    f"Field '{field.name}' ({where}): no value was seen in training. Is it written differently?",
                    stacklevel=2,
                )
            parts.append(local + np.int32(self.schema.offsets[number]))
        return np.concatenate(parts, axis=1)

    def unseen(self, ids: Ids) -> dict[str, int]:
        """Return for each field how many of some ids (N, C) are out-of-vocabulary."""
        last = [start + size - 1 for start, size in zip(self.schema.offsets, self.schema.vocab_sizes, strict=True)]
        return {
            field.name: int((ids[:, start:stop] == oov).sum())
            for field, (start, stop), oov in zip(self.fields, self.schema.columns, last, strict=True)
        }

    @cached_property
    def _vocabularies(self) -> list[dict[str, int]]:
        return [{token: index for index, token in enumerate(tokens, start=1)} for tokens in self.tokens]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain lists and dicts, for JSON."""
        return self.schema.to_dict() | {"tokens": list(map(list, self.tokens)), "edges": list(map(list, self.edges))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Encoder:
        """Return the encoder that `to_dict` wrote. Raises `DataError` where its parts do not fit each other."""
        known = ("fields", "vocab_sizes", "tokens", "edges")
        if extra := sorted(set(values) - set(known)):
            raise unknown("key of an encoder", extra[0], known)
        if absent := [name for name in known if name not in values]:
            raise DataError(f"The encoder lacks {', '.join(absent)}.")
        schema = Schema.from_dict({name: values[name] for name in known[:2]})
        tokens = tuple(tuple(part) for part in values["tokens"])
        edges = tuple(tuple(part) for part in values["edges"])
        found = cls(schema.fields, tokens, edges)
        if len(tokens) != schema.num_fields or len(edges) != schema.num_fields or found.schema != schema:
            raise DataError("The encoder's vocabularies do not have the sizes that its schema names.")
        return found


def _check(table: pd.DataFrame, fields: Sequence[Field], where: str) -> None:
    check_columns(table, [field.name for field in fields], where)
    check_count(len(table), None, where)


def _numbers(field: Field, table: pd.DataFrame, where: str) -> Values:
    return read_numbers(table[field.name], where) if field.kind == "numeric" else np.empty(0)


def _column(field: Field, table: pd.DataFrame, edges: Values, where: str) -> Column:
    """Return a field's cells as text."""
    if field.kind == "numeric":
        tokens = rule_between(str(field.buckets), edges)(_numbers(field, table, where))
        return text_column(pd.Series(tokens, name=field.name))
    return text_column(table[field.name])
