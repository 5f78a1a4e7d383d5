"""A text table in batches: so many bytes of whole lines at a time, parsed by polars, every cell as text.

A batch ends where a line ends, never within a quoted cell, so the rows do not depend on the size of the batches.
The cells are those that `ctrlib.data.read` gives, with "" for an empty one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrlib.errors import DataError

if TYPE_CHECKING:
    import polars

BATCH_BYTES = 1 << 26
LARGEST_LINE = 1 << 26  # bytes after which a quotation mark that does not close is an error
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def import_polars() -> Any:
    """Return the module polars; raises DataError that says how to install it."""
    try:
        import polars
    except ImportError as error:
        raise DataError("Large data sets are read with polars. Install it with: pip install polars") from error
    return polars


def read_header(path: Path, separator: str, quoted: bool) -> list[str]:
    """Return the column names in the first line. Raises DataError when the file is absent or empty."""
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    with path.open("rb") as file:
        line = file.readline().removeprefix(BYTE_ORDER_MARK)
    if not line.strip():
        raise DataError(f"{path} is empty.")
    text = line.decode("utf-8", errors="replace").rstrip("\r\n")
    return next(csv.reader([text], delimiter=separator)) if quoted else text.split(separator)


def read_batches(
    path: Path,
    columns: Sequence[str],
    wanted: Sequence[str],
    *,
    separator: str = ",",
    header: bool = True,
    quoted: bool = True,
    batch_bytes: int = BATCH_BYTES,
) -> Iterator[polars.DataFrame]:
    """Yield the rows of a file in order, as DataFrames of text with the columns `wanted`.

    columns: the names of all columns of the file. header: whether the first line holds them. Raises DataError for a
    line with too many cells, for text that is not UTF-8, and for a quotation mark that does not close.
    """
    pl = import_polars()
    places = sorted(list(columns).index(name) for name in set(wanted))
    # Each batch gets a header of its own: then a line with too few cells ends in empty ones, in the first line too.
    names = [f"column_{place}" for place in range(len(columns))]
    head = (separator.join(names) + "\n").encode()
    for block in _blocks(path, header, quoted, batch_bytes):
        try:
            frame = pl.read_csv(
                io.BytesIO(head + block),
                separator=separator,
                quote_char='"' if quoted else None,
                infer_schema=False,
            )
        except pl.exceptions.PolarsError as error:
            reason = str(error).partition("\n")[0]
            raise DataError(
                f"{path} is not a text table with the same number of cells in each line: {reason}"
            ) from error
        # All columns are parsed, for only then polars notices a line with too many cells.
        yield frame.select(pl.col(names[place]).fill_null("").alias(columns[place]) for place in places)


def _blocks(path: Path, header: bool, quoted: bool, batch_bytes: int) -> Iterator[bytes]:
    """Yield the file in pieces of whole lines, without the header and without blank lines."""
    with path.open("rb") as file:
        if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
            file.seek(0)
        if header:
            file.readline()
        rest = b""
        while piece := file.read(batch_bytes):
            rest += piece
            end = _last_line_end(rest, quoted)
            if end:
                yield from _not_blank(rest[:end])
                rest = rest[end:]
            elif len(rest) > batch_bytes + LARGEST_LINE:
                raise DataError(f"{path}: a quotation mark opens a cell that does not end. Correct or remove the line.")
        yield from _not_blank(rest)


def _last_line_end(text: bytes, quoted: bool) -> int:
    """Return where the last whole line ends: after a newline with an even number of quotation marks before it."""
    end = text.rfind(b"\n") + 1
    marks = text.count(b'"', 0, end) if quoted else 0
    while end and marks % 2:
        before = text.rfind(b"\n", 0, end - 1) + 1
        marks -= text.count(b'"', before, end)
        end = before
    return end


def _not_blank(block: bytes) -> Iterator[bytes]:
    # A blank line between two quotation marks belongs to a cell, so blocks with marks stay as they are.
    if b'"' not in block and (block.startswith((b"\n", b"\r\n")) or b"\n\n" in block or b"\n\r\n" in block):
        block = b"\n".join(line for line in block.splitlines() if line)
    if block:
        yield block
