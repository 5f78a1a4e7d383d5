"""Where a page's numbers come from, and whether they still hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from ctrlib.data.load import DATASETS, cached_fingerprint
from ctrlib.lab.records import Record, frame
from ctrlib.lab.run import SPLIT_SEED, VARIED
from ctrlib.train import NUMERICS

Encoding = tuple[str, int, int | None, int]  # data set, minimum count, training rows, seed of the split
STATES = ("fresh", "not compared", "other numerics", "other data")
MOST_NAMED = 2  # fingerprints


def provenance(recorded: Sequence[Record], computed: Sequence[Record]) -> pd.DataFrame:
    """Return one row for each data set and way of making: runs, failed runs, cells, seeds, device, versions, dates.

    `recorded` come from stored records, `computed` were made in this build. A record is counted as stale whose numerics
    differ from the package's, or whose data differ from what is encoded now (`states`).
    """
    parts = [_rows(recorded, computed, "recorded"), _rows(computed, computed, "computed now")]
    found = [part for part in parts if not part.empty]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _rows(records: Sequence[Record], computed: Sequence[Record], source: str) -> pd.DataFrame:
    table = frame(list(records))
    if table.empty:
        return table
    environments = [record["environment"] for record in records]
    versions = [found.get("versions") or {} for found in environments]
    table = table.assign(
        processor=[found["device_name"] for found in environments],
        torch=[found.get("torch", "") for found in versions],
        numpy=[found.get("numpy", "") for found in versions],
        failed=table["status"] == "failed",
        stale=[state.startswith("other") for state in states(records, computed)],
    )
    grouped = table.groupby(["dataset", "processor", "threads"], dropna=False)
    rows = grouped.agg(
        runs=("seed", "size"),
        failed=("failed", "sum"),
        stale=("stale", "sum"),
        cells=("label", "nunique"),
        seeds=("seed", in_ranges),
        dates=("date", _from_to),
        torch=("torch", _named),
        numpy=("numpy", _named),
        data=("fingerprint", _some_named),
    ).reset_index()
    rows.insert(1, "source", source)
    return rows


def in_ranges(numbers: Iterable[int]) -> str:
    """Return whole numbers as text, such as "1 to 5, 8"."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    parts = [[f"{one[0]} to {one[-1]}"] if len(one) > 2 else map(str, one) for one in found]
    return ", ".join(text for part in parts for text in part)


def _from_to(dates: Iterable[str]) -> str:
    days = sorted({str(date)[:10] for date in dates})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _named(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))


def _some_named(values: Iterable[str]) -> str:
    found = sorted(set(values))
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return ", ".join(found[:MOST_NAMED]) + more


def states(records: Iterable[Record], computed: Iterable[Record] = ()) -> list[str]:
    """Return for each record one of `STATES`.

    Data are compared with those of `computed`, runs of this build, and with those encoded in the cache. Where neither
    has a record's data set in its form, the data are "not compared".
    """
    known: dict[Encoding, str | None] = {encoding(record): record["fingerprint"] for record in computed}
    found = []
    for record in records:
        key = encoding(record)
        if key not in known:
            known[key] = _cached(key)
        found.append(_state(record, known[key]))
    return found


def _state(record: Record, fingerprint: str | None) -> str:
    if record.get("numerics") != NUMERICS:
        return "other numerics"
    if fingerprint is None:
        return "not compared"
    return "fresh" if record["fingerprint"] == fingerprint else "other data"


def encoding(record: Record) -> Encoding:
    """Return the form in which a record's run saw its data set."""
    split = record["seed"] if VARIED[record.get("vary", "seed")][2] else SPLIT_SEED
    return record["dataset"], record["protocol"].get("min_count", 1), record.get("rows"), split


def _cached(key: Encoding) -> str | None:
    name, min_count, rows, split_seed = key
    if name not in DATASETS:
        return None
    return cached_fingerprint(name, min_count=min_count, rows=rows, split_seed=split_seed)


def told(records: Sequence[Record], computed: Sequence[Record] = ()) -> tuple[bool, str]:
    """Return whether all recorded runs are fresh, and that in words."""
    found = states(records, computed)
    counts: Mapping[str, int] = {state: found.count(state) for state in STATES}
    stale = counts["other numerics"] + counts["other data"]
    if stale:
        parts = [f"{counts[state]} made with {state}" for state in STATES[2:] if counts[state]]
        return False, f"{stale} of {len(found)} recorded runs are stale: {', '.join(parts)}."
    text = f"All {len(found)} recorded runs were made with the present numerics."
    lacking = Counter(r["dataset"] for r, state in zip(records, found, strict=True) if state == "not compared")
    if not lacking:
        return True, f"{text} Their data are those that the package encodes now."
    compared = {r["dataset"] for r, state in zip(records, found, strict=True) if state != "not compared"}
    known = compared | {record["dataset"] for record in computed}
    absent = sorted(lacking.keys() - known)
    other = [f"{data} ({count} run{'s' * (count > 1)})" for data, count in sorted(lacking.items()) if data in known]
    parts = [f"not at hand here: {', '.join(absent)}"] if absent else []
    if other:
        parts.append(f"not encoded here: another split, subset or threshold for rare values of {', '.join(other)}")
    return True, f"{text} Their data are the present ones where that can be told; {'; '.join(parts)}."


def learning_curves(records: list[Record]) -> pd.DataFrame:
    """Return one row for each epoch of each completed run: label, seed, epoch and the epoch's figures."""
    return pd.DataFrame(
        [
            {"label": record["label"], "seed": record["seed"]} | epoch
            for record in records
            for epoch in record.get("epochs") or []
        ]
    )
