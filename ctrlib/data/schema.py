"""Fields and schema: which columns a data set has and which table rows they own.

All fields share one embedding table. Field f owns the rows offsets[f] .. offsets[f] + vocab_sizes[f] - 1:
the first is padding, the last is out-of-vocabulary (OOV), and the kept tokens lie between them.

Dimension letters: F fields, C id columns, V table rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from ctrlib.data.buckets import check_rule
from ctrlib.errors import SettingError, unknown

KINDS = ("categorical", "sequence", "numeric")


@dataclass(frozen=True)
class Field:
    """One input column of a data set, as a person declares it.

    kind      "categorical": one token a cell; "sequence": up to `max_len` tokens a cell;
              "numeric": a number that the rule `buckets` turns into a token.
    max_len   id columns of the field, at least 2 for a sequence; tokens after the first `max_len` are cut.
    splitter  what separates the tokens of a sequence.
    buckets   rule of a numeric field: "quantile:N", "log2", "criteo" or "decade" (see `ctrlib.data.buckets`).
    """

    name: str
    kind: str = "categorical"
    max_len: int = 1
    splitter: str = " "
    buckets: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise SettingError(f"The name of a field is {self.name!r}; give the name of a column as text.")
        if self.kind not in KINDS:
            raise unknown("field kind", self.kind, KINDS)
        if not isinstance(self.max_len, int) or self.max_len < 1:
            raise SettingError(f"Field '{self.name}': max_len must be a whole number >= 1, not {self.max_len!r}.")
        if self.kind != "sequence" and self.max_len != 1:
            raise SettingError(f"Field '{self.name}': only a sequence may have max_len {self.max_len}.")
        if self.kind == "sequence" and not self.splitter:
            raise SettingError(f"Field '{self.name}': a sequence needs a splitter of at least one character.")
        if self.kind == "sequence" and self.max_len == 1:
            raise SettingError(
                f"Field '{self.name}': a sequence needs max_len, how many tokens of a cell are kept, at least 2."
            )
        check_rule(self.name, self.kind, self.buckets)


def declared_fields(fields: Iterable[str | Field]) -> tuple[Field, ...]:
    """Return the fields that a person names: a text is a categorical field.

    Raises SettingError for no list, an empty one, one with something else in it, and a name given twice.
    """
    found = [] if isinstance(fields, str) or not isinstance(fields, Iterable) else list(fields)
    if not found:
        raise SettingError("fields must be a list of at least one column name or Field.")
    for field in found:
        if not isinstance(field, str | Field):
            raise SettingError(f"fields holds {field!r}; give the names of columns as text, or Field objects.")
    declared = tuple(Field(field) if isinstance(field, str) else field for field in found)
    names = [field.name for field in declared]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingError(f"Named more than once as a field: {', '.join(twice)}.")
    return declared


@dataclass(frozen=True)
class Schema:
    """Fields of an encoded data set with the vocabulary size of each (kept tokens + padding + OOV)."""

    fields: tuple[Field, ...]
    vocab_sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.fields) != len(self.vocab_sizes):
            raise SettingError(f"{len(self.fields)} fields but {len(self.vocab_sizes)} vocabulary sizes.")
        names = [field.name for field in self.fields]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SettingError(f"A field may be named once; named more than once: {', '.join(twice)}.")
        if too_small := [n for n, size in zip(names, self.vocab_sizes, strict=True) if size < 2]:
            raise SettingError(f"A vocabulary has padding and OOV, so at least 2 rows: {', '.join(too_small)}.")

    @property
    def num_fields(self) -> int:
        """F, the number of fields."""
        return len(self.fields)

    @property
    def table_rows(self) -> int:
        """V, the rows of the embedding table that all fields share."""
        return sum(self.vocab_sizes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """First table row of each field, which is also its padding row."""
        return tuple(accumulate(self.vocab_sizes[:-1], initial=0)) if self.fields else ()

    @property
    def columns(self) -> list[tuple[int, int]]:
        """(start, stop) of each field's columns in the id matrix (N, C)."""
        stops = list(accumulate(field.max_len for field in self.fields))
        return [(stop - field.max_len, stop) for stop, field in zip(stops, self.fields, strict=True)]

    @property
    def num_columns(self) -> int:
        """C, the columns of the id matrix."""
        return sum(field.max_len for field in self.fields)

    @property
    def is_flat(self) -> bool:
        """True when every field has one id column."""
        return self.num_columns == self.num_fields

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as plain lists and dicts, for JSON."""
        return {"fields": [asdict(field) for field in self.fields], "vocab_sizes": list(self.vocab_sizes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Schema:
        """Return the schema that `to_dict` wrote; unknown keys are an error."""
        if extra := sorted(set(values) - {"fields", "vocab_sizes"}):
            raise unknown("key of a schema", extra[0], ("fields", "vocab_sizes"))
        known = Field.__dataclass_fields__
        for field in values["fields"]:
            if extra := sorted(set(field) - set(known)):
                raise unknown("key of a field", extra[0], known)
        fields = tuple(Field(**field) for field in values["fields"])
        return cls(fields, tuple(int(size) for size in values["vocab_sizes"]))
