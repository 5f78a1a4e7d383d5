"""A person's own CSV or Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ctrlib.data.cards import Frames
from ctrlib.data.dataset import SPLITS, CTRDataset
from ctrlib.data.download import checksum_of
from ctrlib.data.encoder import Encoder
from ctrlib.data.pipeline import Recipe, encoder, prepare
from ctrlib.data.read import read_table
from ctrlib.data.schema import Field, declared_fields
from ctrlib.data.splits import SPLIT_SEED
from ctrlib.errors import DataError, SettingError

Table = str | Path | pd.DataFrame


def load_table(
    train: Table,
    valid: Table | None = None,
    test: Table | None = None,
    *,
    label: str,
    fields: Sequence[str | Field],
    min_count: int = 1,
    split_seed: int = SPLIT_SEED,
    rows: int | None = None,
    name: str | None = None,
) -> CTRDataset:
    """Load tables of your own: CSV, TSV or Parquet files, or pandas DataFrames.

    One table is split 8:1:1 at random, fixed by `split_seed`; otherwise give all three.
    label   column of 0 and 1.
    fields  columns to learn from: names (categorical) or `Field` objects.
    rows    keep a random subset of so many training rows, and valid and test in proportion.
    name    goes into records; default: the name of the training file without its ending.

    A CSV is read as text: only an empty cell is missing. Where its first line has no comma, semicolons, tabs or bars
    may stand between the cells. The named index of a Parquet file is a column like the others.

    Raises DataError for a file, column or cell that cannot be used, SettingError for a wrong setting.
    """
    recipe, tables = _recipe(_named(train, valid, test), label, fields, min_count, split_seed, rows, name)
    return prepare(recipe, lambda: _read(tables))


def table_encoder(
    table: Table, *, label: str, fields: Sequence[str | Field], min_count: int = 1, split_seed: int = SPLIT_SEED
) -> Encoder:
    """Return the vocabularies of the data set that `load_table` makes of one table, to give further rows their ids."""
    recipe, tables = _recipe({"all": table}, label, fields, min_count, split_seed)
    return encoder(recipe, _read(tables))


def _recipe(
    given: dict[str, Table],
    label: str,
    fields: Sequence[str | Field],
    min_count: int,
    split_seed: int,
    rows: int | None = None,
    name: str | None = None,
) -> tuple[Recipe, dict[str, Table]]:
    tables = {split: _source(split, table) for split, table in given.items()}
    first = next(iter(given.values()))
    name = name or (_stem(first) if isinstance(first, str | Path) else "table")
    checksums = {} if any(isinstance(table, pd.DataFrame) for table in tables.values()) else _checksums(tables)
    where = {
        split: f"{name} ({split} rows)" if isinstance(table, pd.DataFrame) else str(table)
        for split, table in tables.items()
    }
    recipe = Recipe(
        name=name,
        fields=_fields(fields, label),
        label=label,
        min_count=min_count,
        split_seed=split_seed,
        rows=rows,
        random_split="all" in tables,
        checksums=checksums,
        where=where,
    )
    return recipe, tables


def _named(train: Table, valid: Table | None, test: Table | None) -> dict[str, Table]:
    if valid is None and test is None:
        return {"all": train}
    if valid is None or test is None:
        raise SettingError(
            f"{'valid' if valid is None else 'test'} is not given. Give one table, which is split "
            "8:1:1 at random, or all of train, valid and test."
        )
    return dict(zip(SPLITS, (train, valid, test), strict=True))


def _fields(fields: Sequence[str | Field], label: str) -> tuple[Field, ...]:
    declared = declared_fields(fields)
    if label in [field.name for field in declared]:
        raise SettingError(f"The label '{label}' is also named as a field; a model would see the answer.")
    return declared


def _source(split: str, table: Table) -> Table:
    if isinstance(table, pd.DataFrame):
        return table
    if isinstance(table, str | Path):
        return Path(table).expanduser()
    kind = f"{type(table).__module__.partition('.')[0]}.{type(table).__name__}"
    raise SettingError(f"The table '{split}' is a {kind}; give the path of a file, or a pandas DataFrame.")


def _checksums(tables: dict[str, Table]) -> dict[str, str]:
    paths = {split: Path(str(table)).resolve() for split, table in tables.items()}
    for path in paths.values():
        if not path.is_file():
            raise DataError(f"{path}: no such file.")
    # The ending decides how a file is read, so it belongs to the key as well as the content.
    return {
        f"{split}{''.join(path.suffixes)}": f"sha256:{checksum_of(path, 'sha256')}" for split, path in paths.items()
    }


def _read(tables: dict[str, Table]) -> Frames:
    # Rows are counted from 0 here, whatever index a DataFrame came with, so that errors name the right one.
    return {
        split: table.reset_index(drop=True) if isinstance(table, pd.DataFrame) else read_table(Path(table))
        for split, table in tables.items()
    }


def _stem(path: str | Path) -> str:
    return Path(path).name.partition(".")[0] or "table"
