"""Encoding of a large text file: time and memory for made-up rows in the raw form of Criteo.

The rows have 13 counts and 26 hashed texts, with empty cells and with many texts that are seen once, as the real file
has; the large fields draw from 64 times as many texts as Criteo_x4 keeps. What they say of a click means nothing.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ctrlib.bench.store import checked_threads, last_line, measurement, spread, write_measurement
from ctrlib.data.batch_read import import_polars
from ctrlib.data.criteo import CARDS, CATEGORICAL, NUMERIC, RAW
from ctrlib.data.pipeline import Recipe
from ctrlib.data.stream_encode import prepare_streamed
from ctrlib.data.synthetic import CRITEO_CATEGORICAL
from ctrlib.errors import SettingError
from ctrlib.lab.runner import commit, environment, peak_memory_mb
from ctrlib.paths import cache_dir

CHUNK = 1 << 18  # rows drawn at a time
LARGE, RARE = 10_000, 64  # a field with more kept texts than LARGE has RARE times as many in all
DIGITS = (2, 4, 4, 2, 6, 5, 4, 3, 5, 1, 2, 2, 3)  # of the largest value of I1 to I13
EMPTY = 0.15  # share of empty cells


def measure_encode(rows: int, repeats: int, threads: int | None) -> dict[str, Any]:
    """Measure the encoding of so many rows, each time in a process of its own, on a file that is made first.

    Adds it to data/measurements/encode.json and returns the whole file. Raises SettingError for fewer than 10 rows.
    """
    if rows < 10:
        raise SettingError(f"rows must be at least 10, not {rows}.")
    threads, measured = checked_threads(repeats, threads), commit()
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir()) as scratch:
        path = Path(scratch) / "train.txt"
        write_criteo(path, rows)
        os.environ["POLARS_MAX_THREADS"] = str(threads)
        command = [sys.executable, "-m", "ctrlib.bench.encode", str(path)]
        runs = [last_line(command, threads, "The encoding") for _ in range(repeats)]
        size = path.stat().st_size
    seconds, worked = (spread([run.pop(name) for run in runs]) for name in ("seconds", "processor_seconds"))
    found = measurement("encode")
    found[f"{rows:,} rows ({threads} threads)"] = {
        "rows": rows,
        "file_bytes": size,
        "seconds": seconds,
        "processor_seconds": worked,
        "rows_per_second": rows / seconds["median"],
        "peak_memory_mb": max(run.pop("peak_memory_mb") for run in runs),
        **runs[-1],
        "environment": environment("cpu", threads),
        "polars": version("polars"),
        "commit": measured,
    }
    write_measurement("encode", found)
    return found


def encode_file(path: Path) -> dict[str, Any]:
    """Encode a raw file of Criteo's form into a folder that goes away; return times, peak memory and table rows."""
    card = CARDS["criteo-raw"]
    recipe = Recipe(
        name="criteo-made",
        fields=card.fields,
        label=card.label,
        min_count=card.min_count,
        split_seed=2024,
        rows=None,
        random_split=True,
        checksums={},
        where={},
    )
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        os.environ["CTRLIB_CACHE"] = folder
        import_polars()
        started, worked = time.perf_counter(), time.process_time()
        data = prepare_streamed(recipe, RAW, lambda: {"train.txt": path})
        return {
            "seconds": time.perf_counter() - started,
            "processor_seconds": time.process_time() - worked,  # of all threads; other work on the computer is left out
            "peak_memory_mb": peak_memory_mb("cpu"),
            "table_rows": data.schema.table_rows,
            "fingerprint": data.fingerprint,
        }


def write_criteo(path: Path, rows: int, seed: int = 0) -> None:
    """Write a made-up file in the raw form of Criteo: no header, tabs, label, I1 to I13, C1 to C26.

    A text of rank r among T comes up with a chance near 1 / (r ln T), and a count likewise. Raises DataError
    without polars.
    """
    pl = import_polars()
    draw = np.random.default_rng(seed)
    with path.open("wb") as file:
        for start in range(0, rows, CHUNK):
            n = min(CHUNK, rows - start)
            columns = {"Label": pl.Series((draw.random(n) < 0.256).astype(np.int8))}
            for name, digits in zip(NUMERIC, DIGITS, strict=True):
                columns[name] = pl.Series((10.0**digits) ** draw.random(n)).cast(pl.Int64) - 1
            for number, (name, kept) in enumerate(zip(CATEGORICAL, CRITEO_CATEGORICAL, strict=True)):
                texts = (kept - 2) * (RARE if kept > LARGE else 1)
                ranks, place = np.unique((float(texts) ** draw.random(n)).astype(np.int64), return_inverse=True)
                hashed = [f"{(rank * 2654435761 + number * 40503) % 2**32:08x}" for rank in ranks.tolist()]
                columns[name] = pl.Series(hashed, dtype=pl.String).gather(place)
            for name in (*NUMERIC, *CATEGORICAL[18:]):
                empty = pl.Series(draw.random(n) < EMPTY)
                columns[name] = columns[name].set(empty, None)
            pl.DataFrame(columns).write_csv(file, include_header=False, separator="\t", quote_style="never")


if __name__ == "__main__":
    print(json.dumps(encode_file(Path(sys.argv[1]))))
