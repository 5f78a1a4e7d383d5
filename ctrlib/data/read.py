"""Reading one table from a CSV, TSV or Parquet file, every CSV cell as text."""

from __future__ import annotations

import warnings
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from ctrlib.errors import DataError

OTHERS = (".xlsx", ".xls", ".ods", ".json", ".jsonl", ".feather", ".arrow", ".orc", ".db", ".sqlite")
OTHER_SEPARATORS = (";", "\t", "|")  # of tables that are called CSV; many spreadsheets write semicolons


def read_table(path: Path) -> pd.DataFrame:
    """Read a table: `.parquet` and `.pq` as Parquet, all others as text whose cells `separator` tells apart.

    Only an empty cell of a CSV file is missing: the text "NA" is a token like any other.
    Raises DataError when the file is absent, empty or cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    suffixes = {suffix.lower() for suffix in path.suffixes}
    if path.suffix.lower() in OTHERS:
        raise DataError(
            f"{path}: CSV, TSV and Parquet files are read, and no {path.suffix}. Read it with pandas and give the "
            "table to load_table or CTRClassifier."
        )
    if suffixes & {".parquet", ".pq"}:
        return _read_parquet(path)
    return read_text(path, separator(path))


def separator(path: Path) -> str:
    """Return what stands between the cells of a text table: tabs under the ending `.tsv`, else commas.

    Where the first line has no comma, it is the semicolon, tab or bar that stands in it most often.
    Raises DataError when the file is absent, empty or cannot be read.
    """
    if ".tsv" in [suffix.lower() for suffix in path.suffixes]:
        return "\t"
    first = parse(path, str(path), sep=",", encoding="utf-8-sig", header=None, nrows=1).iloc[0]
    others = {sign: str(first.iloc[0]).count(sign) for sign in OTHER_SEPARATORS} if len(first) == 1 else {}
    return max(others, key=others.__getitem__) if any(others.values()) else ","


def read_text(path: Path, separator: str) -> pd.DataFrame:
    """Read a text table with a header line; every cell is a string."""
    # utf-8-sig also reads files that spreadsheets open with a byte order mark.
    return parse(path, str(path), sep=separator, encoding="utf-8-sig")


def parse(source: Path | StringIO, where: str, **options: Any) -> pd.DataFrame:
    """Run pandas' CSV reader with every cell as text; `where` names the source in errors."""
    try:
        with warnings.catch_warnings():
            # A line with too many cells is an error, never cut in silence.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            options = {"dtype": str, "keep_default_na": False, "index_col": False, **options}
            if "names" in options or "header" in options:
                return pd.DataFrame(pd.read_csv(source, **options))
            # The header is read as a row, since pandas would rename the second of two columns of one name.
            table = pd.DataFrame(pd.read_csv(source, header=None, **options))
            names = [name or f"Unnamed: {number}" for number, name in enumerate(table.iloc[0])]
            return table.iloc[1:].reset_index(drop=True).set_axis(names, axis=1)
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{where} is empty.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text ({error}). Save it with that encoding.") from error
    except (OSError, EOFError) as error:  # of a packed file, or of the disk
        raise DataError(f"{where} cannot be read: {error}") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise DataError(f"{where} is not a text table with the same number of cells in each line: {error}") from error


def _read_parquet(path: Path) -> pd.DataFrame:
    if not path.stat().st_size:
        raise DataError(f"{path} is empty.")
    try:
        table = pd.read_parquet(path)
        # A named index was a column of the file; one without a name only counts rows.
        return table.reset_index(drop=all(name is None for name in table.index.names))
    except ImportError as error:
        raise DataError(
            f"{path}: reading Parquet needs pyarrow. Install it with 'pip install pyarrow', or save the table as CSV."
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
