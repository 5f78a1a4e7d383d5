"""The card of a data set: where it comes from, its terms, its form, and what its loader was tested on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ctrlib.data.origins import Origin
from ctrlib.data.schema import Field

Frames = dict[str, pd.DataFrame]  # "train", "valid", "test"; or "all" where the split is drawn at random


@dataclass(frozen=True)
class Card:
    """What a person should know of a data set, and what its loader needs.

    source        page or paper that it comes from
    splits        how train, valid and test came about, with their rows
    checksums     file name -> "sha256:HEX" or "md5:HEX"; other content is never loaded under this name
    remarks       what the loader was tested on, and what differs from the papers' files
    read          reads the files (name -> path) into tables
    min_count     default: tokens seen less often in the training split become out-of-vocabulary
    random_split  True when `read` returns one table, which `split_seed` splits 8:1:1
    origin        where the files can be fetched; None where a person has to provide them
    """

    title: str
    source: str
    licence: str
    fields: tuple[Field, ...]
    label: str
    splits: str
    checksums: Mapping[str, str]
    remarks: str
    read: Callable[[Mapping[str, Path]], Frames]
    min_count: int
    random_split: bool
    origin: Origin | None = None


def card_text(name: str, card: Card) -> str:
    """Return the card as Markdown."""
    lines = [
        f"### `{name}`: {card.title}",
        "",
        f"- Source: {card.source}",
        f"- Terms: {card.licence}",
        f"- Label: `{card.label}`",
        f"- Fields ({len(card.fields)}): {_fields(card)}",
        f"- Splits: {card.splits}",
        f"- Minimum count of a token: {card.min_count}",
        f"- Remarks: {card.remarks}",
        "- Checksums:",
    ]
    return "\n".join([*lines, *(f"  - `{file}` {value}" for file, value in card.checksums.items())])


def card_table(cards: Mapping[str, Card]) -> pd.DataFrame:
    """Return one row per data set: title, fields, splits, source, terms and remarks."""
    rows = [
        {
            "name": name,
            "title": card.title,
            "fields": _fields(card),
            "splits": card.splits,
            "source": card.source,
            "terms": card.licence,
            "remarks": card.remarks,
        }
        for name, card in cards.items()
    ]
    return pd.DataFrame(rows).set_index("name")


def _fields(card: Card) -> str:
    return ", ".join(_field(field) for field in card.fields)


def _field(field: Field) -> str:
    detail = {
        "sequence": f" (sequence of at most {field.max_len})",
        "numeric": f" (buckets: {field.buckets})",
    }
    return field.name + detail.get(field.kind, "")
