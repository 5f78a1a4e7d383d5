"""Batches of a split for one epoch: from tensors on the device, or from a file larger than the device.

    source = batches_of(split, size, device)
    for ids, labels in source.epoch(generator): ...     every row once, shuffled
    for ids, labels in source.epoch(): ...              every row once, in order

How a streamed split is shuffled. The file is cut into blocks of neighbouring rows. The order of the blocks is
drawn, and the rows of so many blocks as make a window are shuffled together, so a window is read in long pieces.
Two rows of one block therefore lie at most one window apart (or two, where a block is cut), where a full shuffle
may put them anywhere; with 64 blocks a window, a batch still mixes rows from 64 places. A window that holds the
whole split is a full shuffle, and gives the same batches as tensors on the device.

While the batches of one window are used, a thread copies the next window to the device, so two windows of ids are
there at a time: 2 * window * (4 * C + 12) bytes.

Dimension letters: N samples, C id columns, B rows of a batch, W rows of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from ctrlib.data.dataset import Split
from ctrlib.data.stream import StreamedSplit
from ctrlib.errors import SettingError

WINDOW_ROWS = 1 << 20  # 176 MB for 39 columns
BLOCK_ROWS = 1 << 14

Batch = tuple[Tensor, Tensor]  # ids (B, C) int32, labels (B,) float32
Window = tuple[Tensor, Tensor, Tensor | None]  # ids (W, C), labels (W,), order (W,) or None for in order
Piece = tuple[int, int]  # rows start .. stop - 1 of the file


class Batches(Protocol):
    """What training takes its rows from. `rows` is N; the length is the number of batches."""

    rows: int

    def __len__(self) -> int: ...

    def epoch(self, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield every row once, shuffled by `generator` or, without one, in order.

        The last batch may be short. A single row that is left over joins the batch before, for batch norm needs two.
        """
        ...


def batches_of(split: Split, size: int, device: torch.device | str) -> Batches:
    """Return the batches of `size` rows of a split, to be used on `device`."""
    device = torch.device(device)
    return (StreamedBatches if isinstance(split, StreamedSplit) else ResidentBatches)(split, size, device)


class ResidentBatches:
    """Batches of a split whose tensors lie on the device: one permutation an epoch, one gather a batch."""

    def __init__(self, split: Split, size: int, device: torch.device) -> None:
        _check_positive(size=size)
        self.split, self.size, self.device, self.rows = split, size, device, len(split)

    def __len__(self) -> int:
        return len(_edges(self.rows, self.size))

    def epoch(self, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield every row once (see `Batches`)."""
        order = None if generator is None else torch.randperm(self.rows, generator=generator)
        for ids, labels in _cut(self.split.ids, self.split.labels, order, self.size):
            yield ids.to(self.device), labels.to(self.device)


class StreamedBatches:
    """Batches of a split in a file, shuffled window by window (see the module's text).

    window: rows shuffled together, rounded up to whole batches. block: neighbouring rows that stay in one window.
    The order depends on the generator's state, N, size, window and block alone.
    """

    def __init__(
        self, split: Split, size: int, device: torch.device, *, window: int = WINDOW_ROWS, block: int = BLOCK_ROWS
    ) -> None:
        _check_positive(size=size, window=window, block=block)
        self.split, self.size, self.device, self.rows = split, size, device, len(split)
        self.window = -(-window // size) * size
        self.block = block

    def __len__(self) -> int:
        return len(_edges(self.rows, self.size))

    def epoch(self, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Yield every row once (see `Batches`). A thread may use `generator` until the epoch ends.

        An error while a window is read is raised here. A thread reads one window and ends, whatever its reader does.
        """
        load = _Loader(self, generator)
        following = _in_thread(load)
        while (window := following.result()) is not None:
            following = _in_thread(load)
            for tensor in window:
                if tensor is not None and tensor.is_cuda:  # made on the side stream, used and freed on this one
                    tensor.record_stream(torch.cuda.current_stream(self.device))
            yield from _cut(*window, self.size)

    def pieces(self, generator: torch.Generator | None) -> Iterator[list[Piece]]:
        """Yield the pieces of the file that make up each window.

        Every window but the last has the same rows. A single row that is left over joins the window before.
        """
        count = -(-self.rows // self.block)
        left = self.rows
        room = self._room(left)
        # One window is shuffled as a whole, so the order of its blocks does not matter.
        shuffled = generator is not None and room < left
        blocks = torch.randperm(count, generator=generator) if shuffled else torch.arange(count)
        pieces: list[Piece] = []
        for number in blocks.tolist():
            start, stop = number * self.block, min((number + 1) * self.block, self.rows)
            while start < stop:
                end = min(stop, start + room)
                pieces.append((start, end))
                room -= end - start
                left -= end - start
                start = end
                if not room:
                    yield pieces
                    pieces, room = [], self._room(left)

    def _room(self, left: int) -> int:
        """Return the rows of the next window when so many are left."""
        return left if left <= self.window + (self.size > 1) else self.window


class _Loader:
    """Copies one window after the other to the device; called by one thread at a time."""

    def __init__(self, source: StreamedBatches, generator: torch.Generator | None) -> None:
        self.source, self.generator = source, generator
        self.pieces = source.pieces(generator)
        self.cuda = source.device.type == "cuda"
        self.stream = _side_stream(source.device) if self.cuda else None
        self.pinned: Batch | None = None

    def __call__(self) -> Window | None:
        """Return the next window, or None after the last."""
        if (pieces := next(self.pieces, None)) is None:
            return None
        rows = sum(stop - start for start, stop in pieces)
        ids, labels = self._host(rows)
        at = 0
        for start, stop in pieces:
            ids[at : at + stop - start].copy_(self.source.split.ids[start:stop])
            labels[at : at + stop - start].copy_(self.source.split.labels[start:stop])
            at += stop - start
        order = None if self.generator is None else torch.randperm(rows, generator=self.generator)
        if self.stream is None:
            return ids, labels, order
        device = self.source.device
        with torch.cuda.stream(self.stream):
            ids, labels = ids.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            order = None if order is None else order.to(device)
        self.stream.synchronize()  # this thread waits, so that the pinned memory is free and the window complete
        return ids, labels, order

    def _host(self, rows: int) -> Batch:
        """Return host memory for a window: pinned and used again for a GPU, fresh where it is itself the window."""
        split = self.source.split
        if not self.cuda:
            return torch.empty(rows, split.ids.shape[1], dtype=split.ids.dtype), torch.empty(rows)
        if self.pinned is None:
            most = min(self.source.window + 1, self.source.rows)
            ids = torch.empty(most, split.ids.shape[1], dtype=split.ids.dtype, pin_memory=True)
            self.pinned = ids, torch.empty(most, pin_memory=True)
        return self.pinned[0][:rows], self.pinned[1][:rows]


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of a GPU that windows are copied on, of another priority than those of training."""
    return torch.cuda.Stream(device, priority=-1)


def _in_thread(load: _Loader) -> Future[Window | None]:
    pool = ThreadPoolExecutor(1, thread_name_prefix="ctrlib-window")
    future = pool.submit(load)
    pool.shutdown(wait=False)  # takes no more work: the thread ends with this window
    return future


def _cut(ids: Tensor, labels: Tensor, order: Tensor | None, size: int) -> Iterator[Batch]:
    if order is not None:
        order = order.to(ids.device)
    for start, stop in _edges(len(labels), size):
        rows = slice(start, stop) if order is None else order[start:stop]
        yield ids[rows], labels[rows]


def _edges(rows: int, size: int) -> list[Piece]:
    """Return where batches start and stop. A single row that is left over joins the batch before."""
    starts = list(range(0, rows, size))
    if size > 1 and rows > size and rows % size == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], rows], strict=True))


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise SettingError(f"{name} must be at least 1, not {value}.")
