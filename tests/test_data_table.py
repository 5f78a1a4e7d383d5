"""A person's own tables, and every kind of bad input with a clear error."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctrlib.data import Field, load_table
from ctrlib.data.encoder import Encoder
from ctrlib.data.read import separator
from ctrlib.errors import DataError, SettingError

FIELDS = [
    "user",
    Field("price", kind="numeric", buckets="quantile:4"),
    Field("tags", kind="sequence", max_len=3, splitter="|"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTRLIB_CACHE", str(tmp_path / "cache"))


def table(rows: int = 100) -> pd.DataFrame:
    draw = np.random.RandomState(3)
    return pd.DataFrame(
        {
            "click": draw.randint(0, 2, rows),
            "user": [f"u{n}" for n in draw.randint(0, 7, rows)],
            "price": draw.rand(rows).round(3),
            "tags": ["a|b", "b|c|d|e", "", "a"] * (rows // 4),
        }
    )


def load(source: object, **settings: object) -> object:
    return load_table(source, **{"label": "click", "fields": FIELDS, **settings})  # type: ignore[arg-type]


def broken(column: str, row: int, value: object) -> pd.DataFrame:
    frame = table().astype({column: object})
    frame.loc[row, column] = value
    return frame


def test_one_file_is_split_at_random(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    table().to_csv(path, index=False)
    data = load_table(path, label="click", fields=FIELDS)
    assert data.name == "shop" and data.rows == {"train": 80, "valid": 10, "test": 10}
    assert data.schema.vocab_sizes == (9, 6, 7) and data.schema.num_columns == 5
    assert data.notes["split_seed"] == 2024 and data.notes["min_count"] == 1
    again = load_table(path, label="click", fields=FIELDS)
    other = load_table(path, label="click", fields=FIELDS, split_seed=1)
    assert data.fingerprint == again.fingerprint != other.fingerprint


def test_csv_tsv_parquet_and_frame_give_the_same_ids(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = table()
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "b.csv", index=False, lineterminator="\r\n", encoding="utf-8-sig")
    frame.to_csv(tmp_path / "c.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "d.csv.gz", index=False)
    frame.to_parquet(tmp_path / "e.parquet")
    sources = [frame, *sorted(path for path in tmp_path.iterdir() if path.is_file())]
    assert len(sources) == 6
    assert len({load_table(source, label="click", fields=FIELDS, name="t").fingerprint for source in sources}) == 1


def test_three_files_keep_their_split_and_count_unseen_values(tmp_path: Path) -> None:
    paths = [tmp_path / f"{split}.csv" for split in ("train", "valid", "test")]
    for path, rows in zip(paths, ("1,a\n0,b\n", "0,c\n", "1,a\n0,c\n1,d\n"), strict=True):
        path.write_text("click,user\n" + rows)
    data = load_table(*paths, label="click", fields=["user"], name="three")
    assert data.rows == {"train": 2, "valid": 1, "test": 3}
    assert data.test.ids.ravel().tolist() == [1, 3, 3]
    assert {split: counts["user"] for split, counts in data.notes["oov"].items()} == {
        "train": 0,
        "valid": 1,
        "test": 2,
    }
    assert data.notes["positives"] == {"train": 1, "valid": 0, "test": 2}
    assert data.notes["split_seed"] is None  # it decides nothing here


def test_rows_keeps_a_subset() -> None:
    data = load_table(table(), label="click", fields=FIELDS, rows=40)
    assert data.rows == {"train": 40, "valid": 5, "test": 5}


def test_changed_file_is_not_answered_from_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    table().to_csv(path, index=False)
    first = load_table(path, label="click", fields=FIELDS).fingerprint
    broken("user", 5, "u99").to_csv(path, index=False)
    assert load_table(path, label="click", fields=FIELDS).fingerprint != first


def test_text_na_is_a_token_and_an_empty_cell_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("click,user\n" + "1,NA\n0,\n" * 10)
    data = load_table(path, label="click", fields=["user"])
    assert data.schema.vocab_sizes == (3,)
    assert sum(counts["user"] for counts in data.notes["missing"].values()) == 10


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (table().rename(columns={"user": "users"}), r"no column 'user'\. Did you mean 'users'\?"),
        (table().drop(columns="click"), "no column 'click'"),
        (table().head(0), "no rows"),
        (table().head(8), "too few"),
        (broken("click", 41, 2), r"label 'click' must be 0 or 1, but data row 42 has 2 \(1 such row\)"),
        (broken("click", 3, None), "data row 4 has an empty cell"),
        (broken("click", 3, "yes"), r"data row 4 has 'yes' .*table\['click'\] = \(table\['click'\] == 'yes'\)"),
        (
            broken("price", 6, np.nan),
            r"'price' must hold finite numbers, but data row 7 has an empty cell \(1 such",
        ),
        (broken("price", 6, "cheap"), "data row 7 has 'cheap'"),
        (broken("price", 6, np.inf), "data row 7 has inf"),
        (pd.concat([table(), table()[["user"]]], axis=1), "2 columns are called 'user'"),
    ],
)
def test_bad_tables(source: pd.DataFrame, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(source)


def test_missing_numbers_are_counted_over_the_whole_file() -> None:
    frame = table()
    frame.loc[[90, 12, 55], "price"] = np.nan
    with pytest.raises(DataError, match=r"data row 13 .*\(3 such rows\)"):
        load(frame)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"click,user\n", "no rows"),
        (b"click,user\n1,a\n0,b,c\n", "same number of cells"),
        (b"click,user\n1,a,b\n0,b,c\n", "same number of cells"),
        (b'click,user\n1,"a\n0,b\n', "same number of cells"),
        (b"click,user\n1,\xff\n", "codec"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        load_table(path, label="click", fields=["user"])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PAR1 cut in half"])
def test_bad_parquet(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "bad.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.parquet"):
        load(path)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "nowhere.csv")


def test_validation_split_without_rows() -> None:
    with pytest.raises(DataError, match=r"valid rows\): no rows"):
        load_table(table(), table().head(0), table(), label="click", fields=["user"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fields": []}, "at least one"),
        ({"fields": "user"}, "list"),
        ({"fields": None}, "list"),
        ({"fields": ["user", 3]}, "fields holds 3"),
        ({"fields": 7}, "list"),
        ({"fields": ["user", "click"]}, "label 'click' is also named as a field"),
        ({"fields": ["user", "user"]}, "more than once"),
        ({"min_count": 0}, "min_count"),
        ({"min_count": 1.5}, "min_count"),
        ({"rows": 0}, "rows"),
        ({"split_seed": -1}, "split_seed"),
        ({"valid": table()}, "test is not given"),
        ({"test": table()}, "valid is not given"),
    ],
)
def test_wrong_settings(settings: dict[str, object], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        load(table(), **settings)


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_other_separators_are_read(tmp_path: Path, sign: str) -> None:
    path = tmp_path / "shop.csv"
    frame = table().assign(tags=["a,b", "c", "", "a,b,c"] * 25)  # commas in cells are no separators
    frame.to_csv(path, index=False, sep=sign, encoding="utf-8-sig")
    assert separator(path) == sign
    fields = ["user", Field("tags", kind="sequence", max_len=3, splitter=",")]
    of_file, of_frame = (load_table(one, label="click", fields=fields, name="t") for one in (path, frame))
    assert of_file.fingerprint == of_frame.fingerprint
    assert separator_of(tmp_path, "shop,a;b\n") == "," and separator_of(tmp_path, "shop\n") == ","
    joined = frame.rename(columns={"user": sign.join(["user", "x"])})[[sign.join(["user", "x"])]]
    with pytest.raises(DataError, match=rf"read the file with pandas\.read_csv\(\.\.\., sep={re.escape(repr(sign))}\)"):
        load_table(joined, label="click", fields=["user"])


def separator_of(folder: Path, text: str) -> str:
    (folder / "one.csv").write_text(text)
    return separator(folder / "one.csv")


def test_two_columns_of_one_name_are_refused_in_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("shop,hour,shop,click\n" + "a,1,b,0\nb,2,a,1\n" * 50)
    with pytest.raises(DataError, match="shop"):
        load_table(path, label="click", fields=["shop", "hour"])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.xlsx", b"PK", r"CSV, TSV and Parquet files are read, and no \.xlsx"),
        ("a.jsonl", b'{"click": 1}\n', r"no \.jsonl\. Read it with pandas"),
    ],
)
def test_other_forms_of_a_table_are_told(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        load_table(tmp_path / name, label="click", fields=["user"])


def test_the_index_of_a_parquet_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = broken("click", 41, 2).astype({"click": int})
    frame.iloc[20:].to_parquet(tmp_path / "filtered.parquet")
    frame.set_index("user").to_parquet(tmp_path / "named.parquet")
    frame.set_index(frame["user"].rename(None)).to_parquet(tmp_path / "names.parquet")
    for name, row in (("filtered", 22), ("named", 42), ("names", 42)):
        with pytest.raises(DataError, match=f"data row {row} has 2"):
            load(tmp_path / f"{name}.parquet")
    table().set_index("user").to_parquet(tmp_path / "good.parquet")
    assert load(tmp_path / "good.parquet").fingerprint == load(table(), name="good").fingerprint  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (pd.date_range("2024", periods=100), "data row 1 has Timestamp"),
        (pd.Series(pd.date_range("2024", periods=100)).where(np.arange(100) > 2), "data row 1 has an empty cell"),
        (pd.period_range("2024", periods=100), "data row 1 has Period"),
        ([[1, 2]] * 100, r"data row 1 has \[1, 2\]"),
    ],
)
def test_dates_and_lists_are_no_numbers(cells: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(table().assign(price=cells))


def test_an_odd_index_does_not_hide_the_cell() -> None:
    frame = table().set_index(pd.Index([f"row {n}" for n in range(100)])).assign(price=np.nan)
    with pytest.raises(DataError, match="data row 1 has an empty cell"):
        Encoder.fit(frame, [Field("price", kind="numeric", buckets="log2")])


@pytest.mark.parametrize("rule", ["criteo", "decade", "log2"])
def test_huge_numbers_have_tokens_of_their_own_side(rule: str, recwarn: pytest.WarningsRecorder) -> None:
    values = [-1.7e308, -1e30, 5.0, 1e30, 1.7e308]
    encoder = Encoder.fit(pd.DataFrame({"v": values}), [Field("v", kind="numeric", buckets=rule)])
    ids = encoder.ids(pd.DataFrame({"v": values})).ravel().tolist()
    assert ids[0] == ids[1] != ids[2] != ids[4] != ids[0] and not recwarn.list


def test_a_sequence_says_how_many_tokens_are_kept() -> None:
    with pytest.raises(SettingError, match="'tags': a sequence needs max_len"):
        Field("tags", kind="sequence", splitter="|")


def test_what_is_no_table() -> None:
    for source in ({"click": [0, 1]}, None, 3):
        with pytest.raises(SettingError, match="give the path of a file, or a pandas DataFrame"):
            load(source)


def test_a_damaged_archive_and_another_encoding_are_named(tmp_path: Path) -> None:
    packed, latin = tmp_path / "clicks.csv.gz", tmp_path / "latin.csv"
    packed.write_text("shop,click\na,1\n")
    latin.write_bytes("shop,click\nKöln,1\n".encode("latin-1"))
    for path, words in ((packed, "cannot be read"), (latin, "not UTF-8")):
        with pytest.raises(DataError, match=words):
            load_table(path, label="click", fields=["shop"])
