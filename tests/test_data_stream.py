"""Data larger than the device: every row once, order fixed by the seed, errors seen, half a folder refused."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ctrlib import seeds
from ctrlib.data import CTRDataset, Split, StreamedSplit, batches_of, open_streamed, save_streamed
from ctrlib.data import batches as batches_module
from ctrlib.data.batches import Batch, ResidentBatches, StreamedBatches
from ctrlib.data.dataset import SPLITS
from ctrlib.data.stream import Chunk, open_split, write_split, write_streamed
from ctrlib.data.synthetic import Law
from ctrlib.errors import DataError, SettingError
from ctrlib.models import build_model
from ctrlib.train import evaluate

CPU = torch.device("cpu")
ROWS = 1003


def numbered(rows: int = ROWS) -> Split:
    """Row n holds the ids n, n + 1 and n + 2."""
    ids = torch.arange(rows, dtype=torch.int32)[:, None] + torch.arange(3, dtype=torch.int32)
    return Split(ids, (torch.arange(rows) % 3 == 0).float())


def chunks_of(split: Split, size: int = 100) -> Iterator[Chunk]:
    for ids, labels in zip(split.ids.split(size), split.labels.split(size), strict=True):
        yield ids.numpy(), labels.numpy()


@pytest.fixture
def streamed(tmp_path: Path) -> StreamedSplit:
    write_split(tmp_path / "train", chunks_of(numbered()))
    return open_split(tmp_path / "train")


def generator(epoch: int = 1) -> torch.Generator:
    return seeds.stream(7, "batches", epoch)


def joined(batches: Iterator[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    parts = list(batches)
    return torch.cat([ids for ids, _ in parts]), torch.cat([labels for _, labels in parts])


def wait_for_threads() -> int:
    """Return how many reading threads are left, after giving them time to end."""
    for _ in range(200):
        left = [thread for thread in threading.enumerate() if thread.name.startswith("ctrlib-window")]
        if not left:
            return 0
        time.sleep(0.02)
    return len(left)


# Files


def test_a_split_comes_back(streamed: StreamedSplit, tmp_path: Path) -> None:
    assert torch.equal(streamed.ids, numbered().ids) and torch.equal(streamed.labels, numbered().labels)
    assert streamed.ids.dtype == torch.int32 and streamed.labels.dtype == torch.float32 and len(streamed) == ROWS
    assert (
        streamed.to("cpu") is streamed and isinstance(streamed.take(10), StreamedSplit) and len(streamed.take(10)) == 10
    )
    assert sorted(child.name for child in tmp_path.iterdir()) == ["train"], "no scratch folder stays"
    np.testing.assert_array_equal(np.load(tmp_path / "train" / "ids.npy"), numbered().ids.numpy())


def test_a_data_set_comes_back(tiny: CTRDataset, tmp_path: Path) -> None:
    data = tiny.__class__(**(vars(tiny) | {"notes": {"best_auc": {"train": 0.8}}}))
    save_streamed(data, tmp_path / "new" / "tiny")
    found = open_streamed(tmp_path / "new" / "tiny").to("cpu")
    assert (found.name, found.schema, found.fingerprint, found.notes, found.rows) == (
        data.name,
        data.schema,
        data.fingerprint,
        data.notes,
        data.rows,
    )
    for split in SPLITS:
        assert isinstance(getattr(found, split), StreamedSplit)
        assert torch.equal(getattr(found, split).ids, getattr(data, split).ids)
        assert torch.equal(getattr(found, split).labels, getattr(data, split).labels)


def test_a_data_set_in_chunks_has_the_fingerprint_of_the_whole(tiny: CTRDataset, tmp_path: Path) -> None:
    law, rows = Law(tiny.schema), (40_000, 100, 50)
    whole = law.dataset(rows, "made")
    chunks = {
        split: ((part.ids, part.labels) for part in law.chunks(split, n)) for split, n in zip(SPLITS, rows, strict=True)
    }
    settings = {**law.settings, "rows": list(rows)}
    write_streamed(tmp_path / "made", "made", tiny.schema, chunks, settings, {})
    assert open_streamed(tmp_path / "made").fingerprint == whole.fingerprint


def test_half_a_folder_is_refused(tiny: CTRDataset, tmp_path: Path) -> None:
    save_streamed(tiny, tmp_path / "tiny")
    ids = tmp_path / "tiny" / "valid" / "ids.npy"
    whole = ids.read_bytes()
    for part in (whole[:-10], whole[:50], b""):
        ids.write_bytes(part)
        with pytest.raises(DataError, match=r"valid holds no complete split.*Write it again"):
            open_streamed(tmp_path / "tiny")
    ids.unlink()
    with pytest.raises(DataError, match=r"holds no complete split.*ids\.npy"):
        open_streamed(tmp_path / "tiny")
    np.save(ids, np.zeros((3, 3), np.int32))
    with pytest.raises(DataError, match=r"labels \(200,\) uint8"):
        open_streamed(tmp_path / "tiny")
    ids.write_bytes(whole)
    about = tmp_path / "tiny" / "about.json"
    about.write_text(about.read_text().replace('"valid": 200', '"valid": 201'))
    with pytest.raises(DataError, match=r"holds \(200, 3\) ids and about.json says \(201, 3\)"):
        open_streamed(tmp_path / "tiny")
    about.unlink()
    with pytest.raises(DataError, match="holds no complete data set"):
        open_streamed(tmp_path / "tiny")
    with pytest.raises(DataError, match="holds no complete data set"):
        open_streamed(tmp_path / "absent")


def test_a_full_disk_leaves_nothing_behind(tiny: CTRDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"tiny could not be written.*No space left on device.*free some space"):
        save_streamed(tiny, tmp_path / "a" / "tiny")
    assert list((tmp_path / "a").iterdir()) == []


def test_an_error_in_the_chunks_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[Chunk]:
        yield from chunks_of(numbered())
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        write_split(tmp_path / "train", broken())
    assert list(tmp_path.iterdir()) == []


def test_wrong_chunks_and_a_taken_folder(streamed: StreamedSplit, tmp_path: Path) -> None:
    ids, labels = numbered().ids.numpy(), numbered().labels.numpy()
    for chunk, words in (
        ((ids.astype(np.int64), labels), r"Chunk at row 1,003: ids \(1003, 3\) int64"),
        ((ids[:, :2], labels), r"needed are \(n, 3\)"),
        ((ids, labels[1:]), r"labels \(1002,\)"),
        ((ids, labels + 0.5), "neither 0 nor 1"),
    ):
        with pytest.raises(DataError, match=words):
            write_split(tmp_path / "other", [(ids, labels), chunk])
    with pytest.raises(DataError, match="no rows"):
        write_split(tmp_path / "other", [])
    with pytest.raises(DataError, match="exists already"):
        write_split(tmp_path / "train", [(ids, labels)])
    assert sorted(child.name for child in tmp_path.iterdir()) == ["train"]


# Batches


def test_resident_batches_are_the_gathers_of_one_permutation() -> None:
    split = numbered()
    order = torch.randperm(ROWS, generator=generator())
    source = batches_of(split, 64, CPU)
    found = list(source.epoch(generator()))
    assert isinstance(source, ResidentBatches) and len(source) == len(found) == 16 and source.rows == ROWS
    for number, (ids, labels) in enumerate(found):
        rows = order[number * 64 : number * 64 + 64]
        assert torch.equal(ids, split.ids[rows]) and torch.equal(labels, split.labels[rows])


@pytest.mark.parametrize(("window", "block"), [(1, 1), (64, 50), (200, 30), (256, 16), (5000, 100), (1003, 2000)])
def test_every_row_comes_once_in_an_order_that_the_seed_fixes(streamed: StreamedSplit, window: int, block: int) -> None:
    source = StreamedBatches(streamed, 64, CPU, window=window, block=block)
    found = list(source.epoch(generator()))
    assert len(source) == len(found) == 16
    assert [len(labels) for _, labels in found] == [64] * 15 + [ROWS - 15 * 64], "only the last batch is short"
    ids, labels = joined(iter(found))
    order = ids[:, 0].long()
    assert torch.equal(order.sort().values, torch.arange(ROWS)) and not torch.equal(order, torch.arange(ROWS))
    assert torch.equal(ids, numbered().ids[order]) and torch.equal(labels, numbered().labels[order])
    again, other = joined(source.epoch(generator()))[0], joined(source.epoch(generator(2)))[0]
    assert torch.equal(ids, again) and not torch.equal(ids, other)


def test_a_window_that_holds_the_split_gives_the_resident_batches(streamed: StreamedSplit) -> None:
    ours = StreamedBatches(streamed, 64, CPU, window=ROWS, block=100).epoch(generator())
    for one, other in zip(ours, batches_of(numbered(), 64, CPU).epoch(generator()), strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_a_window_holds_whole_blocks_from_all_over(streamed: StreamedSplit) -> None:
    source = StreamedBatches(streamed, 50, CPU, window=200, block=20)
    windows = list(source.pieces(generator()))
    assert [sum(stop - start for start, stop in pieces) for pieces in windows] == [200] * 5 + [3]
    assert all(len(pieces) in (10, 11) for pieces in windows[:-1])
    first = sorted(start for start, _ in windows[0])
    assert first[-1] - first[0] > ROWS / 2


@pytest.mark.parametrize("source", [numbered(), None], ids=["resident", "streamed"])
def test_in_order(streamed: StreamedSplit, source: Split | None) -> None:
    ids, labels = joined(batches_of(source or streamed, 64, CPU).epoch())
    assert torch.equal(ids, numbered().ids) and torch.equal(labels, numbered().labels)
    many = StreamedBatches(streamed, 64, CPU, window=128, block=30)
    assert torch.equal(joined(many.epoch())[0], numbered().ids)


def test_scores_of_a_streamed_split(tiny: CTRDataset, tmp_path: Path) -> None:
    save_streamed(tiny, tmp_path / "tiny")
    model = build_model("T9", tiny.schema)
    assert evaluate(model, open_streamed(tmp_path / "tiny").valid) == evaluate(model, tiny.valid)


def test_an_error_in_the_thread_reaches_the_caller(streamed: StreamedSplit, monkeypatch: pytest.MonkeyPatch) -> None:
    load = batches_module._Loader.__call__
    calls = []

    def fails_later(self: batches_module._Loader) -> object:
        calls.append(threading.current_thread())
        if len(calls) == 3:
            raise OSError(errno.EIO, "disk gone")
        return load(self)

    monkeypatch.setattr(batches_module._Loader, "__call__", fails_later)
    seen = 0
    with pytest.raises(OSError, match="disk gone"):
        for ids, _ in StreamedBatches(streamed, 50, CPU, window=100).epoch(generator()):
            seen += len(ids)
    assert seen == 200, "the two windows before the error were used"
    assert threading.main_thread() not in calls and wait_for_threads() == 0


def test_no_thread_outlives_a_reader_that_stops(streamed: StreamedSplit) -> None:
    kept = StreamedBatches(streamed, 50, CPU, window=100).epoch(generator())
    next(kept)
    assert wait_for_threads() == 0, "even while the iterator is kept"
    with pytest.raises(ZeroDivisionError):
        for _ in StreamedBatches(streamed, 50, CPU, window=100).epoch(generator()):
            raise ZeroDivisionError
    assert wait_for_threads() == 0
    list(StreamedBatches(streamed, 50, CPU, window=100).epoch(generator()))
    assert wait_for_threads() == 0


@pytest.mark.parametrize("setting", ["size", "window", "block"])
def test_wrong_settings(streamed: StreamedSplit, setting: str) -> None:
    values = {"size": 10, "window": 10, "block": 10} | {setting: 0}
    with pytest.raises(SettingError, match=f"{setting} must be at least 1, not 0"):
        StreamedBatches(streamed, values["size"], CPU, window=values["window"], block=values["block"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_batches_on_a_gpu(streamed: StreamedSplit) -> None:
    for window in (100, 5000):
        ours = StreamedBatches(streamed, 50, torch.device("cuda"), window=window).epoch(generator())
        host = StreamedBatches(streamed, 50, CPU, window=window).epoch(generator())
        for one, other in zip(ours, host, strict=True):
            assert one[0].is_cuda and torch.equal(one[0].cpu(), other[0]) and torch.equal(one[1].cpu(), other[1])


@pytest.mark.parametrize(("rows", "size"), [(65, 32), (129, 32), (33, 32), (97, 16), (5, 1), (1, 4)])
def test_no_batch_has_a_single_row_unless_all_have(tmp_path: Path, rows: int, size: int) -> None:
    write_split(tmp_path / "train", chunks_of(numbered(rows)))
    streamed = open_split(tmp_path / "train")
    for source in (
        ResidentBatches(numbered(rows), size, CPU),
        StreamedBatches(streamed, size, CPU, window=64, block=8),
    ):
        for order in (None, generator()):
            batches = list(source.epoch(order))
            counts = [len(labels) for _, labels in batches]
            assert len(counts) == len(source) and sum(counts) == rows and max(counts) <= size + 1
            assert min(counts) > 1 or size == 1 or rows == 1
            assert sorted(torch.cat([ids[:, 0] for ids, _ in batches]).tolist()) == list(range(rows))
