"""A person's own CSV or Parquet files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ctrlib.errors import DataError


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV file with every cell as text."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} is empty.") from error
