"""Where a page's numbers come from."""

from __future__ import annotations

import pandas as pd

from ctrlib.lab.records import Record, frame
from ctrlib.train import NUMERICS


def provenance(recorded: list[Record], computed: list[Record]) -> pd.DataFrame:
    """Return one row for each data set and way of making: runs, failed runs, cells, seeds, device, dates.

    `recorded` come from stored records, `computed` were made in this build. A record whose numerics differ from
    the package's is counted as stale.
    """
    parts = [_rows(recorded, "recorded"), _rows(computed, "computed now")]
    return pd.concat([part for part in parts if not part.empty], ignore_index=True)


def _rows(records: list[Record], source: str) -> pd.DataFrame:
    table = frame(records)
    if table.empty:
        return table
    names = [r["environment"]["device_name"] for r in records]
    table = table.assign(processor=names, failed=table["status"] == "failed", stale=table["numerics"] != NUMERICS)
    grouped = table.groupby(["dataset", "processor", "threads"], dropna=False)
    rows = grouped.agg(
        runs=("seed", "size"),
        failed=("failed", "sum"),
        stale=("stale", "sum"),
        cells=("label", "nunique"),
        seeds=("seed", lambda s: ", ".join(map(str, sorted(set(s))))),
        first=("date", "min"),
        last=("date", "max"),
    ).reset_index()
    rows[["first", "last"]] = rows[["first", "last"]].map(lambda date: str(date)[:10])
    return rows.assign(source=source)


def learning_curves(records: list[Record]) -> pd.DataFrame:
    """Return one row for each epoch of each completed run: label, seed, epoch and the epoch's figures."""
    return pd.DataFrame(
        [
            {"label": record["label"], "seed": record["seed"]} | epoch
            for record in records
            for epoch in record.get("epochs") or []
        ]
    )
