"""Data sets on disk that are larger than the device: ids in memory-mapped files, labels in memory.

    folder/  about.json             name, schema, fingerprint, notes, rows
             train/  ids.npy        (N, C) int32
                     labels.npy     (N,) uint8 of 0 and 1
             valid/  test/

A folder appears under its name when everything in it is written, and never before.

Dimension letters: N samples, C id columns.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctrlib.data.dataset import SPLITS, CTRDataset, Split, fingerprint
from ctrlib.data.schema import Schema
from ctrlib.errors import DataError

Chunk = tuple[NDArray[Any], NDArray[Any]]  # ids (n, C) int32, labels (n,) of 0 and 1
Arrays = dict[str, Chunk]  # split -> all its ids and labels
WRITE_ROWS = 1 << 16  # rows of a chunk when a data set in memory is written


@dataclass(frozen=True)
class StreamedSplit(Split):
    """A split whose `ids` are a read-only map of a file: pages are read when they are touched.

    It stays on the host: training takes its rows through `ctrlib.data.batches`. Writing to `ids` ends the process.
    """

    def to(self, device: torch.device | str) -> StreamedSplit:
        """Return the split itself: its ids are not meant to fit on a device."""
        return self

    def take(self, n: int) -> StreamedSplit:
        """Return the first `n` samples (all of them when there are fewer)."""
        return StreamedSplit(self.ids[:n], self.labels[:n])


def save_streamed(data: CTRDataset, folder: Path) -> None:
    """Write a data set to a new folder, whole or not at all. Raises DataError when that cannot be done."""
    chunks = {split: _chunks(getattr(data, split)) for split in SPLITS}
    _write(folder, data.name, data.schema, chunks, data.notes, data.fingerprint)


def write_streamed(
    folder: Path,
    name: str,
    schema: Schema,
    chunks: Mapping[str, Iterable[Chunk]],
    settings: Mapping[str, Any],
    notes: Mapping[str, Any],
) -> None:
    """Write a data set that comes in chunks, split -> chunks, and never lies in memory as a whole.

    `settings` are what its fingerprint covers besides the content (see `ctrlib.data.dataset.fingerprint`).
    """
    _write(folder, name, schema, chunks, dict(notes), lambda arrays: fingerprint(name, settings, schema, arrays))


def finish_streamed(
    part: Path, folder: Path, name: str, schema: Schema, settings: Mapping[str, Any], notes: Mapping[str, Any]
) -> None:
    """Make `folder` of the folder `part`, whose splits `write_split` wrote; it takes its name when all is complete.

    Raises DataError when that cannot be done.
    """
    parts = {split: open_split(part / split) for split in SPLITS}
    mark = fingerprint(name, settings, schema, {s: (one.ids.numpy(), one.labels.numpy()) for s, one in parts.items()})
    try:
        _write_about(part, name, schema, mark, dict(notes), {split: len(one) for split, one in parts.items()})
        os.rename(part, folder)
    except OSError as error:
        raise DataError(f"{folder} could not be written ({error}). Free some space, then start again.") from error


def open_streamed(folder: Path) -> CTRDataset:
    """Open a folder that `save_streamed` or `write_streamed` wrote; its splits are `StreamedSplit`s.

    Raises DataError when the folder is absent, incomplete or damaged. Sizes are checked; the content is not read.
    """
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf8"))
        schema, rows = Schema.from_dict(about["schema"]), about["rows"]
        name, mark, notes = about["name"], about["fingerprint"], about["notes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} holds no complete data set ({error!r}). Write it again.") from error
    splits = {split: open_split(folder / split) for split in SPLITS}
    for split, part in splits.items():
        if part.ids.shape != (rows.get(split), schema.num_columns):
            raise DataError(
                f"{folder / split} holds {tuple(part.ids.shape)} ids and about.json says "
                f"{(rows.get(split), schema.num_columns)}. Write the data set again."
            )
    return CTRDataset(name, schema, **splits, fingerprint=mark, notes=notes)


def write_split(folder: Path, chunks: Iterable[Chunk]) -> int:
    """Write one split to a new folder, whole or not at all, and return its rows.

    A chunk is (ids (n, C) int32, labels (n,) of 0 and 1). Raises DataError for a chunk of another form, for a
    folder that exists, and when the disk is full. Another error in `chunks` is passed on.
    """
    with _new_folder(folder) as scratch:
        return _write_arrays(scratch, chunks)


def open_split(folder: Path) -> StreamedSplit:
    """Open a folder of `write_split`. Raises DataError when it is absent, incomplete or damaged."""
    try:
        ids = np.load(folder / "ids.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{folder} holds no complete split ({error}). Write it again.") from error
    if ids.dtype != np.int32 or ids.ndim != 2 or labels.dtype != np.uint8 or labels.shape != ids.shape[:1]:
        raise DataError(
            f"{folder}: ids are {ids.shape} {ids.dtype} and labels {labels.shape} {labels.dtype}, "
            "not (N, C) int32 and (N,) uint8. Write it again."
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")  # a writable map would count as memory in use
        return StreamedSplit(torch.from_numpy(ids), torch.from_numpy(labels.astype(np.float32)))


def _chunks(split: Split) -> Iterator[Chunk]:
    for start in range(0, len(split), WRITE_ROWS):
        part = slice(start, start + WRITE_ROWS)
        yield split.ids[part].cpu().numpy(), split.labels[part].cpu().numpy()


def _write(
    folder: Path,
    name: str,
    schema: Schema,
    chunks: Mapping[str, Iterable[Chunk]],
    notes: dict[str, Any],
    mark: str | Callable[[Arrays], str],
) -> None:
    with _new_folder(folder) as scratch:
        rows = {}
        for split in SPLITS:
            (scratch / split).mkdir()
            rows[split] = _write_arrays(scratch / split, chunks[split])
        if not isinstance(mark, str):
            parts = {split: open_split(scratch / split) for split in SPLITS}
            mark = mark({split: (part.ids.numpy(), part.labels.numpy()) for split, part in parts.items()})
        _write_about(scratch, name, schema, mark, notes, rows)


def _write_about(
    folder: Path, name: str, schema: Schema, mark: str, notes: dict[str, Any], rows: dict[str, int]
) -> None:
    about = {"name": name, "schema": schema.to_dict(), "fingerprint": mark, "notes": notes, "rows": rows}
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf8")


def _write_arrays(folder: Path, chunks: Iterable[Chunk]) -> int:
    """Append chunk after chunk. Written, not mapped: a full disk is then an error and not a signal."""
    rows, columns = 0, None
    with (folder / "ids.npy").open("wb") as ids_file, (folder / "labels.npy").open("wb") as labels_file:
        for ids, labels in chunks:
            columns = ids.shape[1] if columns is None and ids.ndim == 2 else columns
            _check(ids, labels, columns, rows)
            if not rows:
                _header(ids_file, "<i4", (0, columns))
                _header(labels_file, "|u1", (0,))
            ids_file.write(np.ascontiguousarray(ids, dtype="<i4").reshape(-1).data)
            labels_file.write(labels.astype(np.uint8).data)
            rows += len(ids)
        if not rows:
            raise DataError("There are no rows to write. A split needs at least one.")
        # numpy leaves room for a larger number of rows, so the header keeps its length.
        _header(ids_file, "<i4", (rows, columns))
        _header(labels_file, "|u1", (rows,))
        for file in (ids_file, labels_file):
            file.flush()
            os.fsync(file.fileno())
    return rows


def _header(file: IO[bytes], kind: str, shape: tuple[Any, ...]) -> None:
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})


def _check(ids: NDArray[Any], labels: NDArray[Any], columns: int | None, row: int) -> None:
    if ids.dtype != np.int32 or ids.ndim != 2 or ids.shape[1] != columns or labels.shape != ids.shape[:1]:
        raise DataError(
            f"Chunk at row {row:,}: ids {ids.shape} {ids.dtype} and labels {labels.shape}; "
            f"needed are (n, {columns or 'C'}) int32 and (n,)."
        )
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"Chunk at row {row:,}: a label is neither 0 nor 1.")


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Give a scratch folder that takes the name `folder` when the block ends well, and goes away when not."""
    if folder.exists():
        raise DataError(f"{folder} exists already. Remove it, or choose another folder.")
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        scratch.mkdir(parents=True)
        yield scratch
        os.rename(scratch, folder)
    except OSError as error:
        raise DataError(
            f"{folder} could not be written ({error}). Nothing was kept; "
            "free some space or choose another folder, then start again."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
