"""`load_dataset`: from the name of a data set to encoded splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ctrlib.data import avazu, cache, criteo, frappe, ipinyou, kkbox, movielens, tenrec
from ctrlib.data.cards import Card, Frames, card_table, card_text
from ctrlib.data.dataset import CTRDataset
from ctrlib.data.files import cached_or_fetched_files, local_files, sums_of
from ctrlib.data.pipeline import Recipe, prepare
from ctrlib.data.splits import SPLIT_SEED
from ctrlib.data.stream_encode import prepare_streamed
from ctrlib.errors import SettingError, unknown

DATASETS: dict[str, Card] = {
    **movielens.CARDS,
    **frappe.CARDS,
    **criteo.CARDS,
    **avazu.CARDS,
    **kkbox.CARDS,
    **ipinyou.CARDS,
    **tenrec.CARDS,
}


def load_dataset(
    name: str, *, min_count: int | None = None, split_seed: int = SPLIT_SEED, rows: int | None = None
) -> CTRDataset:
    """Load one of `DATASETS` as ids and labels; the ids of a large one are maps of files in the cache.

    min_count   tokens seen less often in the training split become out-of-vocabulary; default: the card's.
    split_seed  fixes the random split where none is published, and the subset that `rows` draws.
    rows        keep a random subset of so many raw training rows, and valid and test in proportion.

    Files are looked for in `$CTRLIB_DATA/NAME`, in the cache, and at the official source, and are verified
    by checksum where one is known. Raises SettingError for an unknown name, DataError when the files cannot be
    had or used.
    """
    card = _card(name)
    local = local_files(name, DATASETS)  # before the cache: a damaged folder is to be noticed

    def files() -> dict[str, Path]:
        return local or cached_or_fetched_files(name, card)

    known = _known_sums(card)
    checksums = known if len(known) == len(card.checksums) else known | sums_of(files())
    recipe = _recipe(name, min_count, split_seed, rows, checksums)
    if card.layout:
        return prepare_streamed(recipe, card.layout, files)
    return prepare(recipe, lambda: card.read(files()))


def cached_fingerprint(
    name: str, *, min_count: int | None = None, split_seed: int = SPLIT_SEED, rows: int | None = None
) -> str | None:
    """Return the fingerprint that `load_dataset` would give now, without reading or encoding anything.

    None where the encoded data are not in the cache, or where the card does not know the checksum of every file.
    """
    card = _card(name)
    known = _known_sums(card)
    if len(known) < len(card.checksums):
        return None
    recipe = _recipe(name, min_count, split_seed, rows, known)
    path = cache.cache_path(recipe.name, recipe.settings, recipe.fields, recipe.label, recipe.checksums)
    return cache.stored_fingerprint(path)


def _known_sums(card: Card) -> dict[str, str]:
    return {file: value for file, value in card.checksums.items() if value}


def _recipe(
    name: str, min_count: int | None, split_seed: int, rows: int | None, checksums: Mapping[str, str]
) -> Recipe:
    card = DATASETS[name]
    return Recipe(
        name=name,
        fields=card.fields,
        label=card.label,
        split_seed=split_seed,
        rows=rows,
        min_count=card.min_count if min_count is None else min_count,
        random_split=card.random_split,
        checksums=checksums,
        where={},
        cut_valid=card.cut_valid,
        expected=card.rows,
    )


def read_raw(name: str) -> Frames:
    """Return the tables of a small data set as they are before encoding: "all", or one for each split.

    Raises SettingError for an unknown name or a large data set, DataError when the files cannot be had or used.
    """
    card = _card(name)
    if card.layout:
        raise SettingError(f"'{name}' is too large to be one table in memory. Use load_dataset('{name}').")
    return card.read(local_files(name, DATASETS) or cached_or_fetched_files(name, card))


def describe(name: str) -> str:
    """Return the card of a data set as Markdown."""
    return card_text(name, _card(name))


def cards() -> pd.DataFrame:
    """Return one row per data set, for a page that lists them."""
    return card_table(DATASETS)


def _card(name: str) -> Card:
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    return DATASETS[name]
