"""The way of every data set: cache, or read -> check -> split -> subset -> encode -> cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ctrlib.data import cache
from ctrlib.data.cards import Frames
from ctrlib.data.checks import check_count, check_frame
from ctrlib.data.dataset import CTRDataset, Split, fingerprint
from ctrlib.data.encode import encode
from ctrlib.data.encoder import Encoder
from ctrlib.data.schema import Field
from ctrlib.data.splits import cut_valid, random_split, subset
from ctrlib.errors import SettingError


@dataclass(frozen=True)
class Recipe:
    """All that decides the encoded arrays besides the content of the files.

    checksums  file name -> checksum; without any the arrays are not cached
    where      table ("train", "valid", "test" or "all") -> its name in error messages
    cut_valid  True when there is no validation table, and a tenth of the training table becomes one
    expected   table -> the rows that it must have
    """

    name: str
    fields: tuple[Field, ...]
    label: str
    min_count: int
    split_seed: int
    rows: int | None
    random_split: bool
    checksums: Mapping[str, str]
    where: Mapping[str, str]
    cut_valid: bool = False
    expected: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_whole("min_count", self.min_count, 1)
        _check_whole("split_seed", self.split_seed, 0)
        if self.rows is not None:
            _check_whole("rows", self.rows, 1)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the fingerprint covers; a seed that decides nothing is left out."""
        used = self.random_split or self.cut_valid or self.rows is not None
        return {
            "min_count": self.min_count,
            "rows": self.rows,
            "split_seed": self.split_seed if used else None,
        }

    def place(self, table: str) -> str:
        """Return what error messages call a table."""
        return self.where.get(table, f"{self.name}, {table} split")


def prepare(recipe: Recipe, read: Callable[[], Frames]) -> CTRDataset:
    """Return the encoded data set from the cache, or from the tables that `read` returns."""
    if not recipe.checksums:
        return _encoded(recipe, read())
    path = cache.cache_path(recipe.name, recipe.settings, recipe.fields, recipe.label, recipe.checksums)
    data = cache.load(path)
    if data is None:
        data = _encoded(recipe, read())
        cache.save(data, recipe.settings, path)
    return data


def encoder(recipe: Recipe, frames: Frames) -> Encoder:
    """Return what the training rows teach, by which further rows get the ids that `prepare` gives."""
    return Encoder.fit(_in_splits(recipe, frames)["train"], recipe.fields, recipe.min_count)


def _in_splits(recipe: Recipe, frames: Frames) -> Frames:
    for table, frame in frames.items():
        check_frame(frame, recipe.fields, recipe.label, recipe.place(table))
        check_count(len(frame), recipe.expected.get(table), recipe.place(table))
    if recipe.random_split:
        frames = random_split(frames["all"], recipe.split_seed, recipe.where.get("all", recipe.name))
    if recipe.cut_valid:
        frames = cut_valid(frames, recipe.split_seed, recipe.place("train"))
    if recipe.rows is not None:
        frames = subset(frames, recipe.rows, recipe.split_seed)
    return frames


def _encoded(recipe: Recipe, frames: Frames) -> CTRDataset:
    encoded = encode(_in_splits(recipe, frames), recipe.fields, recipe.label, recipe.min_count)
    splits = {
        split: Split(torch.from_numpy(ids), torch.from_numpy(labels)) for split, (ids, labels) in encoded.arrays.items()
    }
    positives = {split: int(labels.sum()) for split, (_, labels) in encoded.arrays.items()}
    notes = {**recipe.settings, "positives": positives, "oov": encoded.oov, "missing": encoded.missing}
    return CTRDataset(
        recipe.name,
        encoded.schema,
        **splits,
        notes=notes,
        fingerprint=fingerprint(recipe.name, recipe.settings, encoded.schema, encoded.arrays),
    )


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**32:
        raise SettingError(f"{name} must be a whole number from {least} to 2^32 - 1, not {value!r}.")
