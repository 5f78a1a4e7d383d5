"""Encoding of text files that are larger than the memory: batch by batch, split by split, into files of ids.

    look     every file once: labels, number cells, number of rows; what is wrong is an error here, before any work
    count    the training rows once: how often every text of every field was seen, and from that the vocabularies
    write    every split once: ids and labels into the cache

The result has the ids, the vocabularies, the counts and the fingerprint that `ctrlib.data.pipeline.prepare` gives for
the same files. Memory holds one batch, the distinct texts of the training rows with their counts, and one byte a row.

Splits appear under NAME-DIGEST.part one after the other, each whole or not at all, and the folder gets its name when
all three are there. A start after an interruption looks and counts again, and writes only the splits that are missing.

Dimension letters: N samples, C id columns, U distinct texts.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctrlib.data import cache
from ctrlib.data.batch_read import BATCH_BYTES, import_polars, read_batches, read_header
from ctrlib.data.buckets import fit_rule
from ctrlib.data.checks import (
    check_count,
    label_error,
    number_error,
    place_of,
    to_numbers,
    wrong_labels,
    wrong_numbers,
)
from ctrlib.data.dataset import SPLITS, CTRDataset
from ctrlib.data.download import locked
from ctrlib.data.encode import Column, Ids, build_vocabulary, local_ids
from ctrlib.data.layout import Derived, Layout
from ctrlib.data.pipeline import Recipe
from ctrlib.data.schema import Field, Schema
from ctrlib.data.splits import cut_rows, random_rows, subset_rows
from ctrlib.data.stream import Chunk, finish_streamed, open_streamed, write_split
from ctrlib.errors import DataError

if TYPE_CHECKING:
    import polars

MERGE_TEXTS = 1 << 21  # counted texts that wait before they are added up
Counted = dict[str, dict[str, int]]  # "oov" or "missing" -> field -> number


def prepare_streamed(
    recipe: Recipe, layout: Layout, files: Callable[[], Mapping[str, Path]], batch_bytes: int = BATCH_BYTES
) -> CTRDataset:
    """Return the encoded data set from the cache, or from the files (name -> path); its splits are `StreamedSplit`s.

    Raises DataError for a file, column or cell that cannot be used, and when the cache cannot be written.
    """
    path = cache.cache_path(recipe.name, recipe.settings, recipe.fields, recipe.label, recipe.checksums)
    folder = path.with_suffix("")
    if (data := _finished(folder)) is not None:
        return data
    import_polars()
    paths = files()
    try:
        with locked(folder.with_name(f".{folder.name}.lock")):
            if (data := _finished(folder)) is None:  # else another process made it while this one waited
                _Encoding(recipe, layout, paths, batch_bytes).write(folder)
                data = open_streamed(folder)
    except OSError as error:
        raise DataError(f"{folder} could not be written ({error}). CTRLIB_CACHE names another folder.") from error
    return data


def _finished(folder: Path) -> CTRDataset | None:
    """Open the folder; None when there is none, or when it was damaged and is now removed."""
    if not folder.exists():
        return None
    try:
        return open_streamed(folder)
    except DataError as error:
        warnings.warn(f"{folder} is damaged ({error}) and is made again.", stacklevel=3)
        shutil.rmtree(folder, ignore_errors=True)
        return None


@dataclass(frozen=True)
class _Part:
    """Which rows of which table a split has; None for all of them."""

    table: str
    rows: NDArray[np.bool_] | None = None  # (N,)


@dataclass
class _Fault:
    """Cells of a column that cannot be used: the first one and how many."""

    row: int = -1
    text: str = ""
    count: int = 0

    def add(self, column: Column, wrong: NDArray[np.intp], start: int) -> None:
        """Note the wrong rows of a batch that begins at row `start` of the file."""
        if wrong.size and not self.count:
            self.row, self.text = start + int(wrong[0]), column.texts[column.codes[wrong[0]]]
        self.count += wrong.size

    @property
    def place(self) -> str:
        return place_of(self.text, self.row, self.count)


class _Encoding:
    """One data set on its way from files to ids."""

    def __init__(self, recipe: Recipe, layout: Layout, files: Mapping[str, Path], batch_bytes: int) -> None:
        self.recipe, self.layout, self.batch_bytes = recipe, layout, batch_bytes
        self.paths = {table: files[name] for table, name in layout.files.items()}

    def write(self, folder: Path) -> None:
        """Make the folder of ids; what an earlier start has left of it is used."""
        recipe = self.recipe
        labels = {table: self.look(table) for table in self.paths}  # each (N,) uint8
        parts = self.parts({table: len(values) for table, values in labels.items()})
        coders = self.count(parts["train"])
        schema = Schema(recipe.fields, tuple(coder.size for coder in coders))
        for coder, offset in zip(coders, schema.offsets, strict=True):
            coder.offset = offset
        notes: dict[str, Any] = {**recipe.settings, "positives": {}, "oov": {}, "missing": {}}
        unfinished = folder.with_name(f"{folder.name}.part")
        for split, part in parts.items():
            counted = self.write_split(unfinished, split, part, labels[part.table], coders)
            notes["oov"][split], notes["missing"][split] = counted["oov"], counted["missing"]
            kept = labels[part.table] if part.rows is None else labels[part.table][part.rows]
            notes["positives"][split] = int(kept.sum(dtype=np.int64))
        finish_streamed(unfinished, folder, recipe.name, schema, recipe.settings, notes)
        for left in folder.iterdir():  # counts, and scratch folders of starts that were killed
            if left.name not in (*SPLITS, "about.json"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def look(self, table: str) -> NDArray[np.uint8]:
        """Return the labels (N,) of a table. Raises the DataErrors of `check_frame`."""
        recipe, source, where = self.recipe, self.layout.source, self.recipe.place(table)
        path = str(self.paths[table])
        numeric = [one for one in recipe.fields if one.kind == "numeric"]
        faults = {name: _Fault() for name in (recipe.label, *(one.name for one in numeric))}
        labels: list[NDArray[np.uint8]] = []
        start = 0
        for frame in self.batches(table, [recipe.label, *(source(one.name) for one in numeric)]):
            column = _column(frame[recipe.label])
            values = _numbers(column.texts)[column.codes]
            faults[recipe.label].add(column, wrong_labels(values), start)
            labels.append((values == 1).astype(np.uint8))
            for one in numeric:
                cells, made = frame[source(one.name)], self.layout.derived.get(one.name)
                if wrong_numbers(_numbers(_made(cells.unique().to_list(), made, path))).size:  # rare: find the rows
                    column = _column(cells)
                    column = Column(_made(column.texts, made, path), column.codes)
                    faults[one.name].add(column, wrong_numbers(_numbers(column.texts)[column.codes]), start)
            start += len(frame)
        check_count(start, None, where)
        if faults[recipe.label].count:
            raise label_error(recipe.label, faults[recipe.label].place, where)
        for one in numeric:
            if faults[one.name].count:
                raise number_error(one.name, faults[one.name].place, where)
        check_count(start, recipe.expected.get(table), where)
        return np.concatenate(labels)

    def parts(self, sizes: Mapping[str, int]) -> dict[str, _Part]:
        """Return which rows each split has, from table -> its rows."""
        recipe = self.recipe
        rows: dict[str, NDArray[np.int64] | None] = dict.fromkeys(SPLITS)
        tables = {split: split for split in SPLITS}
        if recipe.random_split:
            tables = dict.fromkeys(SPLITS, "all")
            rows |= random_rows(sizes["all"], recipe.split_seed, recipe.where.get("all", recipe.name))
        if recipe.cut_valid:
            tables["valid"] = "train"
            rows |= cut_rows(sizes["train"], recipe.split_seed, recipe.place("train"))
        if recipe.rows is not None:
            lengths = {split: sizes[tables[split]] if found is None else len(found) for split, found in rows.items()}
            for split, kept in subset_rows(lengths, recipe.rows, recipe.split_seed).items():
                found = rows[split]
                rows[split] = kept if found is None else found[kept]
        return {split: _Part(tables[split], _mask(rows[split], sizes[tables[split]])) for split in SPLITS}

    def count(self, part: _Part) -> list[_Coder]:
        """Return the coder of each field, with its vocabulary from the training rows."""
        tallies = {one.name: _Tally() for one in self.recipe.fields}
        for frame in self.batches_of(part):
            for one in self.recipe.fields:
                tallies[one.name].add(frame[self.layout.source(one.name)])
        where, coders = str(self.paths[part.table]), []
        for one in self.recipe.fields:
            coders.append(_Coder(one, self.layout.derived.get(one.name), where))
            coders[-1].learn(tallies.pop(one.name).total(), self.recipe.min_count)
        return coders

    def write_split(
        self, folder: Path, split: str, part: _Part, labels: NDArray[np.uint8], coders: list[_Coder]
    ) -> Counted:
        """Write one split, unless an earlier start has, and return what was counted."""
        record = folder / f"{split}.json"  # written after the split, so it says that the split is whole
        if record.is_file() and (folder / split).is_dir():
            return dict(json.loads(record.read_text(encoding="utf8")))
        shutil.rmtree(folder / split, ignore_errors=True)
        counted: Counted = {kind: {coder.field.name: 0 for coder in coders} for kind in ("oov", "missing")}
        write_split(folder / split, self.chunks(part, labels, coders, counted))
        record.write_text(json.dumps(counted), encoding="utf8")
        return counted

    def chunks(self, part: _Part, labels: NDArray[np.uint8], coders: list[_Coder], counted: Counted) -> Iterator[Chunk]:
        """Yield ids (n, C) and labels (n,) of the batches, and add up what is counted."""
        kept = labels if part.rows is None else labels[part.rows]
        start = 0
        for frame in self.batches_of(part):
            blocks: list[Ids] = []
            for coder in coders:
                local, oov, missing = coder.ids(frame[self.layout.source(coder.field.name)])
                blocks.append(local + np.int32(coder.offset))
                counted["oov"][coder.field.name] += oov
                counted["missing"][coder.field.name] += missing
            yield np.concatenate(blocks, axis=1), kept[start : start + len(frame)]
            start += len(frame)

    def batches_of(self, part: _Part) -> Iterator[polars.DataFrame]:
        """Yield the rows of a split with the columns of all fields; a batch without any is left out."""
        start = 0
        for frame in self.batches(part.table, [self.layout.source(one.name) for one in self.recipe.fields]):
            stop = start + len(frame)
            if part.rows is not None:
                frame = frame.filter(import_polars().Series(part.rows[start:stop]))
            start = stop
            if len(frame):
                yield frame

    def batches(self, table: str, wanted: list[str]) -> Iterator[polars.DataFrame]:
        """Yield some columns of a table."""
        path, layout = self.paths[table], self.layout
        columns = list(layout.header or read_header(path, layout.separator, layout.quoted))
        layout.check(columns, self.recipe.fields, self.recipe.label, self.recipe.place(table))
        return read_batches(
            path,
            columns,
            wanted,
            separator=layout.separator,
            header=layout.header is None,
            quoted=layout.quoted,
            batch_bytes=self.batch_bytes,
        )


class _Coder:
    """Vocabulary of one field, and the way from texts to local ids.

    size: kept tokens, padding and OOV. offset: the field's first table row. known: texts of the training rows.
    table: local ids (U, max_len) of the known texts. empty: (U,), which of them are a missing cell.
    A field whose tokens are its texts, as most are, knows the kept ones alone: every other text is OOV.
    """

    def __init__(self, field: Field, derived: Derived | None, where: str) -> None:
        self.field, self.derived, self.where = field, derived, where  # `where` names the file in errors
        self.plain = derived is None and field.kind == "categorical"
        self.offset = self.size = 0
        self.vocabulary: dict[str, int] = {}
        self.bucket: Callable[[NDArray[np.float64]], NDArray[np.str_]] | None = None

    def learn(self, seen: polars.DataFrame, min_count: int) -> None:
        """Build the vocabulary from the texts of the training rows, columns "text" and "times"."""
        pl = import_polars()
        if self.plain:  # the millions of rare texts of a large field need not become Python objects
            seen = seen.filter(pl.col("times") >= min_count)
        texts, times = _made(seen["text"].to_list(), self.derived, self.where), seen["times"].to_numpy()
        if self.field.kind == "numeric":
            values = _numbers(texts)
            self.bucket = fit_rule(str(self.field.buckets), np.repeat(values, times))
            texts = self.bucket(values).tolist()
        vocabulary = build_vocabulary(self.field, texts, times, min_count)
        self.size = len(vocabulary) + 2
        if self.plain:
            self.known = pl.Series(list(vocabulary), dtype=pl.String)
        else:
            self.vocabulary, self.known = vocabulary, seen["text"]
            self.table = local_ids(self.field, Column(texts, np.arange(len(texts))), vocabulary)[0]
            self.empty = np.array([not text for text in texts])

    def ids(self, cells: polars.Series) -> tuple[Ids, int, int]:
        """Return the local ids (n, max_len) of some cells, how many are OOV, and how many cells are missing."""
        oov = self.size - 1
        places = _places(cells, self.known, oov - 1 if self.plain else -1)
        if self.plain:
            local = (places + 1)[:, None]
            return local, int((local == oov).sum()), int((cells == "").sum())
        local, missing = self.table[places], int(self.empty[places].sum())
        if (new := places < 0).any():  # texts that no training row has
            column = self._column(cells.filter(import_polars().Series(new)))
            local[new] = local_ids(self.field, column, self.vocabulary)[0]
            missing += column.missing - int(self.empty[places[new]].sum())
        return local, int((local == oov).sum()), missing

    def _column(self, cells: polars.Series) -> Column:
        column = _column(cells)
        texts = _made(column.texts, self.derived, self.where)
        return Column(self.bucket(_numbers(texts)).tolist() if self.bucket else texts, column.codes)


class _Tally:
    """How often each text was seen. What waits is added up now and then, so that it stays small."""

    def __init__(self) -> None:
        self.parts: list[polars.DataFrame] = []
        self.waiting = 0

    def add(self, cells: polars.Series) -> None:
        """Count the cells of a batch."""
        pl = import_polars()
        part = cells.alias("text").value_counts(name="times")
        # A part of a column keeps the text of the whole column alive; joining makes new texts.
        self.parts.append(part.with_columns(pl.concat_str("text", pl.lit(""))))
        self.waiting += len(part)
        if self.waiting > max(MERGE_TEXTS, 2 * len(self.parts[0])):
            self.total()

    def total(self) -> polars.DataFrame:
        """Return the texts seen so far, columns "text" and "times"."""
        pl = import_polars()
        if len(self.parts) > 1:
            self.parts = [pl.concat(self.parts).group_by("text").agg(pl.col("times").sum())]
            self.waiting = len(self.parts[0])
        return self.parts[0]


def _made(texts: list[str], derived: Derived | None, where: str) -> list[str]:
    return derived.tokens(texts, where) if derived else texts


def _numbers(texts: list[str]) -> NDArray[np.float64]:
    return to_numbers(pd.Series(texts, dtype=object))


def _column(cells: polars.Series) -> Column:
    """Return the distinct texts of some cells and the index of each cell's text."""
    texts = cells.unique()
    return Column(texts.to_list(), _places(cells, texts, -1).astype(np.intp))


def _places(cells: polars.Series, texts: polars.Series, absent: int) -> NDArray[np.int32]:
    """Return where in `texts` each of the cells is, (n,), and `absent` for one that is not there."""
    pl = import_polars()
    numbers = pl.Series(np.arange(len(texts), dtype=np.int32))
    found: NDArray[np.int32] = cells.replace_strict(texts, numbers, default=absent, return_dtype=pl.Int32).to_numpy()
    return found


def _mask(rows: NDArray[np.int64] | None, n: int) -> NDArray[np.bool_] | None:
    if rows is None:
        return None
    mask = np.zeros(n, dtype=np.bool_)
    mask[rows] = True
    return mask
