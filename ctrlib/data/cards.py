"""The card of a data set: where it comes from, its terms, its form, and what its loader was tested on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ctrlib.data.layout import Layout
from ctrlib.data.origins import Origin
from ctrlib.data.schema import Field

# Tables "train", "valid", "test"; or "all" where the split is drawn at random; or "train" and "test".
Frames = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Card:
    """What a person should know of a data set, and what its loader needs.

    source        page or paper that it comes from
    splits        how train, valid and test came about, with their rows
    checksums     file name -> "sha256:HEX" or "md5:HEX"; other content is never loaded under this name. None where
                  no checksum is known
    remarks       what the loader was tested on, and what differs from the papers' files
    read          reads the files (name -> path) into tables
    min_count     default: tokens seen less often in the training split become out-of-vocabulary
    random_split  True when `read` returns one table, which `split_seed` splits 8:1:1
    origin        where the files can be fetched; None where a person has to provide them
    access        how a person gets the files, where there is more to it than the origin
    cut_valid     True when `read` returns train and test, and `split_seed` cuts a tenth of train as validation
    layout        form of the files of a large data set, which is encoded in batches and kept on disk
    rows          table -> its rows, checked where they stand in for a checksum
    folder        name of the folder with the files; None for the name of the data set
    """

    title: str
    source: str
    licence: str
    fields: tuple[Field, ...]
    label: str
    splits: str
    checksums: Mapping[str, str | None]
    remarks: str
    read: Callable[[Mapping[str, Path]], Frames]
    min_count: int
    random_split: bool
    origin: Origin | None = None
    access: str = ""
    cut_valid: bool = False
    layout: Layout | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    folder: str | None = None


def card_facts(card: Card) -> dict[str, str]:
    """Return what a card says of its data set, term -> text; the checksums stand apart (`card_checksums`)."""
    return {
        "Source": card.source,
        "Terms": card.licence,
        "Label": card.label,
        f"Fields ({len(card.fields)})": _fields(card),
        "Splits": card.splits,
        "Files": _files(card),
        "Minimum count of a token": str(card.min_count),
        "Remarks": card.remarks,
    }


def card_checksums(card: Card) -> dict[str, str]:
    """Return file name -> its checksum in words."""
    return {file: value or "not known" for file, value in card.checksums.items()}


def card_text(name: str, card: Card) -> str:
    """Return the card as Markdown."""
    facts = [f"- {term}: {text}" for term, text in card_facts(card).items()]
    sums = [f"  - `{file}` {value}" for file, value in card_checksums(card).items()]
    return "\n".join([f"### `{name}`: {card.title}", "", *facts, "- Checksums:", *sums])


def card_table(cards: Mapping[str, Card]) -> pd.DataFrame:
    """Return one row per data set: title, fields, splits, source, terms, remarks and files."""
    rows = [
        {
            "name": name,
            "title": card.title,
            "fields": _fields(card),
            "splits": card.splits,
            "source": card.source,
            "terms": card.licence,
            "remarks": card.remarks,
            "files": _files(card),
        }
        for name, card in cards.items()
    ]
    return pd.DataFrame(rows).set_index("name")


def _files(card: Card) -> str:
    return card.access or ("load_dataset fetches them." if card.origin else "They cannot be downloaded.")


def _fields(card: Card) -> str:
    return ", ".join(_field(one) for one in card.fields)


def _field(one: Field) -> str:
    detail = {
        "sequence": f" (sequence of at most {one.max_len})",
        "numeric": f" (buckets: {one.buckets})",
    }
    return one.name + detail.get(one.kind, "")
