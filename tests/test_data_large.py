"""Large data sets: the forms of their files, encoding in batches against encoding in memory, errors, interruptions."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ctrlib.bench import encode as bench
from ctrlib.bench.store import measurement
from ctrlib.data import DATASETS, CTRDataset, Field, StreamedSplit, describe, hub, load_dataset
from ctrlib.data import stream_encode as stream_encode_module
from ctrlib.data.batch_read import read_batches, read_header
from ctrlib.data.cards import Card
from ctrlib.data.dataset import SPLITS
from ctrlib.data.layout import (
    Derived,
    Layout,
    age_group,
    country_code,
    hour_of_day,
    weekday,
    weekend,
    zero_if_empty,
)
from ctrlib.data.pipeline import Recipe, prepare
from ctrlib.data.stream_encode import prepare_streamed
from ctrlib.errors import DataError, SettingError
from ctrlib.models import build_model
from ctrlib.train import Protocol, fit

pytest.importorskip("polars", reason="large data sets are read with polars")

REAL = os.environ.get("CTRLIB_DATA", "")
LARGE = [name for name, card in DATASETS.items() if card.layout]
FORMS = [*LARGE, "movielenslatest_x1"]
BATCHES = [1, 300, 4096, 1 << 20]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTRLIB_DATA", str(tmp_path / "own"))


def cell(name: str, draw: random.Random) -> str:
    """A made-up cell of the form that a column of the large data sets has."""
    match name:
        case "label" | "Label" | "click":
            return str(int(draw.random() < 0.3))
        case "hour":
            return f"1410{draw.randint(21, 30)}{draw.randint(0, 23):02d}"
        case "bd":
            return draw.choice(["", "0", "7", "23", "27", "41", "1051"])
        case "isrc":
            return draw.choice(["", "GBAYE6800011", "TWA471200001", "TWB531410007"])
        case "genre_ids" | "artist_name":
            return " ".join(draw.choice(["465", "1259", "Ä", "a,b", 'say "x"']) for _ in range(draw.randint(0, 5)))
        case _ if name.startswith("I") and name[1:].isdigit():
            return draw.choice(["", "-1", "0", "2", "3", "0.25", str(draw.randint(0, 9000))])
        case _:
            return draw.choice(["", str(draw.randint(0, 30)), f"{draw.randint(0, 9):08x}"])


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text


def lines(columns: list[str], rows: int, seed: int, separator: str, quotes: bool) -> list[str]:
    draw = random.Random(seed)
    cells = ([cell(name, draw) for name in columns] for _ in range(rows))
    return [separator.join(quoted(text) if quotes else text for text in row) for row in cells]


def texts_of(card: Card, rows: int = 60) -> dict[str, str]:
    """Made-up files of the form that a card describes: file name -> text."""
    layout = card.layout or Layout(hub.SPLIT_FILES)
    columns = list(layout.header or ["id", *dict.fromkeys([card.label, *(layout.source(f.name) for f in card.fields)])])
    head = [] if layout.header else [layout.separator.join(columns)]
    return {
        name: "\n".join([*head, *lines(columns, rows, number, layout.separator, layout.quoted)]) + "\n"
        for number, name in enumerate(dict.fromkeys(layout.files.values()))
    }


def write(folder: Path, texts: Mapping[str, str]) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode())
    return {name: folder / name for name in texts}


def sums(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: f"md5:{hashlib.md5(text.encode()).hexdigest()}" for name, text in texts.items()}


def recipe_of(card: Card, texts: Mapping[str, str], **changes: object) -> Recipe:
    recipe = Recipe(
        name="made",
        fields=card.fields,
        label=card.label,
        min_count=2,
        split_seed=3,
        rows=None,
        random_split=card.random_split,
        checksums=sums(texts),
        where={},
        cut_valid=card.cut_valid,
    )
    return replace(recipe, **changes)  # type: ignore[arg-type]


def assert_same(streamed: CTRDataset, memory: CTRDataset) -> None:
    assert streamed.schema == memory.schema and streamed.fingerprint == memory.fingerprint
    assert streamed.notes == memory.notes and streamed.rows == memory.rows
    for split in SPLITS:
        one, other = getattr(streamed, split), getattr(memory, split)
        assert isinstance(one, StreamedSplit) and torch.equal(one.ids, other.ids)
        assert torch.equal(one.labels, other.labels) and one.labels.dtype == torch.float32


# Rules


def test_rules_of_derived_fields() -> None:
    ages = {"": "", "0": "", "0.5": "", "1": "1", "10": "1", "11": "2", "30": "3", "60": "6", "61": "7", "95": "7"}
    assert {age: age_group(age) for age in ages} == ages
    assert age_group("1051") == age_group("-3") == "" and zero_if_empty("") == "0" and zero_if_empty("7") == "7"
    assert country_code("GBAYE6800011") == "GB" and country_code("") == ""
    # 21 October 2014 was a Tuesday.
    assert [rule("14102109") for rule in (hour_of_day, weekday, weekend)] == ["09", "2", "0"]
    assert [weekend(f"141025{hour}") for hour in ("00", "23")] == ["1", "1"] and hour_of_day("") == ""
    for wrong in ("14102125", "14133000", "2014102109", "1410210x"):
        with pytest.raises(ValueError, match="YYMMDDHH"):
            weekday(wrong)
    with pytest.raises(DataError, match=r"f.csv: column 'bd' cannot be read: 'old' is not a number"):
        Derived("bd", age_group).tokens(["3", "old"], "f.csv")


def test_criteo_buckets_and_empty_counts(tmp_path: Path) -> None:
    card = DATASETS["criteo-raw"]
    assert [field.buckets for field in card.fields[:13]] == ["criteo"] * 13
    rows = [["0", value, *[""] * 38] for value in ("", "0", "2", "3", "100", "-2")]
    text = "".join("\t".join(row) + "\n" for row in rows)
    frame = card.read(write(tmp_path, {"train.txt": text}))["all"]
    assert frame["I1"].tolist() == ["0", "0", "2", "3", "100", "-2"] and frame["C1"].fillna("").tolist() == [""] * 6


# Cards


@pytest.mark.parametrize("name", LARGE)
def test_a_missing_data_set_says_how_to_get_it(name: str) -> None:
    card = replace(DATASETS[name], origin=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, name, card)
        with pytest.raises(DataError, match=rf"put .* into a folder named '{card.folder or name}'.*") as error:
            load_dataset(name)
    assert card.access and card.access in str(error.value) and card.access in describe(name)


@pytest.mark.parametrize(
    ("name", "raw"), [(f"{data}_x{k}", f"{data}-raw") for data in ("criteo", "avazu") for k in (1, 4)]
)
def test_published_splits_hold_the_rows_of_the_raw_file(name: str, raw: str) -> None:
    told = DATASETS[name].splits.split(":")[-1].removesuffix(" rows")
    parts = [int(count.replace(",", "")) for count in told.split(" / ")]
    assert len(parts) == 3 and sum(parts) == DATASETS[raw].rows["all"]


def test_fields_of_the_large_sets() -> None:
    assert {name: len(DATASETS[name].fields) for name in FORMS} == {
        "criteo_x4": 39,
        "criteo_x1": 39,
        "criteo-raw": 39,
        "avazu_x4": 24,
        "avazu_x1": 22,
        "avazu-raw": 24,
        "kkbox_x1": 13,
        "ipinyou_x1": 16,
        "ipinyou_x1-released": 16,
        "tenrec_x1": 15,
        "movielenslatest_x1": 3,
    }
    assert "not known" in describe("tenrec_x1") and "account" in describe("tenrec_x1")


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_read_in_both_ways(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = DATASETS[name]
    texts = texts_of(card)
    files = write(tmp_path / "own" / (card.folder or name), texts)
    rows = dict.fromkeys(card.rows, 60)
    checksums = {file: value and sums(texts)[file] for file, value in card.checksums.items()}
    monkeypatch.setitem(DATASETS, name, replace(card, checksums=checksums, rows=rows))
    data = load_dataset(name, min_count=2)
    known = {
        file: value or f"sha256:{hashlib.sha256(texts[file].encode()).hexdigest()}" for file, value in checksums.items()
    }
    recipe = recipe_of(card, texts, name=name, split_seed=2024, checksums=known)
    memory = prepare(replace(recipe, checksums={}), lambda: card.read(files))
    if card.layout:
        assert_same(data, memory)
    assert data.fingerprint == memory.fingerprint and data.schema.num_fields == len(card.fields)
    assert load_dataset(name, min_count=2).fingerprint == data.fingerprint


@pytest.mark.parametrize("name", ["criteo-sample", "avazu-sample"])
@pytest.mark.parametrize("rows", [None, 300])
def test_real_rows_in_batches_are_the_rows_in_memory(
    name: str, rows: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not REAL or not (Path(REAL) / name).is_dir():
        pytest.skip(f"needs the files of {name}: set CTRLIB_DATA to a folder that has them")
    monkeypatch.setenv("CTRLIB_DATA", REAL)
    memory = load_dataset(name, rows=rows)
    layout = DATASETS[name.replace("sample", "raw")].layout
    assert layout and memory.rows["train"] == (rows or {"criteo-sample": 1599, "avazu-sample": 2395}[name])
    for size in (120_000, 1 << 22):
        monkeypatch.setenv("CTRLIB_CACHE", str(tmp_path / str(size)))
        card = DATASETS[name]
        recipe = recipe_of(card, {}, name=name, split_seed=2024, rows=rows, checksums=card.checksums)
        files = {file: Path(REAL) / name / file for file in card.checksums}
        assert_same(prepare_streamed(recipe, layout, lambda files=files: files, size), memory)


def test_ipinyou_has_two_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = texts_of(DATASETS["ipinyou_x1"], rows=100)
    write(tmp_path / "own" / "ipinyou_x1", texts)  # both read this folder
    for name in ("ipinyou_x1", "ipinyou_x1-released"):
        monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], checksums=sums(texts)))
    proper, released = load_dataset("ipinyou_x1"), load_dataset("ipinyou_x1-released")
    assert proper.rows == {"train": 90, "valid": 10, "test": 100}
    assert released.rows == {"train": 100, "valid": 100, "test": 100}
    assert torch.equal(released.valid.ids, released.test.ids) and proper.fingerprint != released.fingerprint
    assert load_dataset("ipinyou_x1", split_seed=1).fingerprint != proper.fingerprint
    assert load_dataset("ipinyou_x1-released", split_seed=1).fingerprint == released.fingerprint
    assert proper.notes["split_seed"] == 2024 and released.notes["split_seed"] is None


def test_a_cut_file_without_a_checksum_is_noticed_by_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(DATASETS["tenrec_x1"], rows={"train": 60, "valid": 60, "test": 60})
    monkeypatch.setitem(DATASETS, "tenrec_x1", card)
    texts = texts_of(card)
    files = write(tmp_path / "own" / "tenrec_x1", texts)
    first = load_dataset("tenrec_x1")
    files["valid.csv"].write_text("".join(texts["valid.csv"].splitlines(keepends=True)[:-7]))
    with pytest.raises(DataError, match=r"tenrec_x1, valid split: 53 rows, and 60 are expected.*cut short"):
        load_dataset("tenrec_x1")
    files["valid.csv"].write_text(texts["valid.csv"])
    assert load_dataset("tenrec_x1").fingerprint == first.fingerprint


# Batches


FIELDS = (
    Field("user"),
    Field("tags", kind="sequence", max_len=2, splitter="|"),
    Field("price", kind="numeric", buckets="quantile:7"),
    Field("year", kind="numeric", buckets="decade"),
    Field("land"),
)
LAYOUT = Layout(hub.SPLIT_FILES, derived={"land": Derived("code", country_code)})
MADE = replace(DATASETS["kkbox_x1"], fields=FIELDS, label="label", layout=LAYOUT, read=LAYOUT.read)


def made_files(rows: tuple[int, int, int] = (400, 90, 80), ending: str = "\n") -> dict[str, str]:
    draw = random.Random(5)
    texts = {}
    for name, count in zip(hub.SPLIT_FILES.values(), rows, strict=True):
        made = ["label,code,user,tags,price,year"]
        for _ in range(count):
            tags = "|".join(draw.choice(["x", "y, z", 'q"', "Ω"]) for _ in range(draw.randint(0, 4)))
            user = draw.choice(["", f"u{int(200 ** draw.random())}", "a user with a rather long name"])
            row = [str(draw.randint(0, 1)), draw.choice(["", "GB1", "TW2"]), user, tags]
            made.append(",".join(map(quoted, [*row, f"{draw.gauss(0, 5):.1f}", str(draw.randint(1890, 2020))])))
        texts[name] = ending.join([*made, ""])
    return texts


@pytest.mark.parametrize("batch_bytes", BATCHES)
@pytest.mark.parametrize("changes", [{}, {"rows": 37}, {"min_count": 1}, {"cut_valid": True}, {"min_count": 9999}])
def test_batches_of_any_size_give_what_memory_gives(
    batch_bytes: int, changes: dict[str, object], tmp_path: Path
) -> None:
    texts = made_files((40, 11, 10) if batch_bytes == 1 else (400, 90, 80))
    files = write(tmp_path, texts)
    layout = LAYOUT
    if "cut_valid" in changes:
        layout = replace(LAYOUT, files={"train": "train.csv", "test": "test.csv"})
    recipe = recipe_of(MADE, texts, **changes)
    memory = prepare(replace(recipe, checksums={}), lambda: layout.read(files))
    assert_same(prepare_streamed(recipe, layout, lambda: files, batch_bytes), memory)


def test_a_random_split_in_batches(tmp_path: Path) -> None:
    texts = {"train.csv": made_files()["train.csv"]}
    files, layout = write(tmp_path, texts), replace(LAYOUT, files={"all": "train.csv"})
    recipe = recipe_of(MADE, texts, random_split=True)
    memory = prepare(replace(recipe, checksums={}), lambda: layout.read(files))
    assert_same(prepare_streamed(recipe, layout, lambda: files, 999), memory)
    few = recipe_of(MADE, texts, random_split=True, name="few")
    write(tmp_path, {"train.csv": "\n".join(texts["train.csv"].splitlines()[:8])})
    with pytest.raises(DataError, match=r"few: 7 rows are too few for a split 8:1:1"):
        prepare_streamed(few, layout, lambda: files)


@pytest.mark.parametrize("batch_bytes", [1, 7, 1 << 20])
def test_lines_and_cells_of_every_kind(batch_bytes: int, tmp_path: Path) -> None:
    text = '\ufeffa,"b,c",d\r\n1,"x, ""y""\n z",3\r\n\r\n,"",NA\r\n7,8\r\n'
    (path,) = write(tmp_path, {"t.csv": text}).values()
    assert read_header(path, ",", True) == ["a", "b,c", "d"]
    rows = [
        row
        for frame in read_batches(path, ["a", "b", "d"], ["d", "b"], batch_bytes=batch_bytes)
        for row in frame.rows()
    ]
    assert [row for row in rows if any(row)] == [('x, "y"\n z', "3"), ("", "NA"), ("8", "")]
    (path,) = write(tmp_path, {"t.tsv": 'a\t"b\n\n"\tc\n\n'}).values()
    frames = read_batches(
        path, ["a", "b"], ["a", "b"], separator="\t", header=False, quoted=False, batch_bytes=batch_bytes
    )
    assert [row for frame in frames for row in frame.rows()][:1] == [("a", '"b')]


def test_a_model_trains_on_what_was_encoded_in_batches(tmp_path: Path) -> None:
    texts = made_files()
    files, recipe = write(tmp_path, texts), recipe_of(MADE, texts)
    streamed = prepare_streamed(recipe, LAYOUT, lambda: files, 5000)
    memory = prepare(replace(recipe, checksums={}), lambda: LAYOUT.read(files))
    scores = [
        fit(build_model("T9", data.schema, seed=1), data, Protocol(max_epochs=1, batch_size=64), seed=1).test
        for data in (streamed, memory)
    ]
    assert scores[0] == scores[1]


# Errors


def spoiled(texts: dict[str, str], change: str) -> dict[str, str]:
    rows = texts["valid.csv"].splitlines()
    match change:
        case "column":
            rows[0] = rows[0].replace("user", "usr")
        case "label":
            rows[5], rows[9] = "2" + rows[5][1:], "x" + rows[9][1:]
        case "number":
            rows[7] = rows[7].rpartition(",")[0] + ",soon"
        case "cells":
            rows[4] += ",1,2"
        case "no rows":
            rows = rows[:1]
        case "empty":
            rows = []
    return texts | {"valid.csv": "\n".join(rows)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("column", r"made, valid split: no column 'user'. Did you mean 'usr'"),
        ("label", r"made, valid split: label 'label' must be 0 or 1, but data row 5 has '2' \(2 such rows\)"),
        ("number", r"made, valid split: numeric field 'year' must hold finite numbers, but data row 7 has 'soon'"),
        ("cells", r"valid.csv is not a text table with the same number of cells in each line"),
        ("no rows", r"made, valid split: no rows"),
        ("empty", r"valid.csv is empty"),
    ],
)
def test_the_errors_are_those_of_tables_in_memory(change: str, words: str, tmp_path: Path) -> None:
    texts = spoiled(made_files(), change)
    files, recipe = write(tmp_path, texts), recipe_of(MADE, texts)
    found = []
    for attempt in (
        lambda: prepare_streamed(recipe, LAYOUT, lambda: files, 500),
        lambda: prepare(replace(recipe, checksums={}), lambda: LAYOUT.read(files)),
    ):
        with pytest.raises(DataError, match=words) as error:
            attempt()
        found.append(str(error.value))
    alike = [error.partition(" Columns:" if change == "column" else ": ")[0] for error in found]
    assert found[0] == found[1] or (change in ("column", "cells") and alike[0] == alike[1])
    assert not list((tmp_path / "cache" / "encoded").glob("made-*")), "nothing is left that looks finished"


def test_text_that_is_not_utf8_and_a_mark_that_never_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = made_files()
    files = write(tmp_path, texts)
    files["test.csv"].write_bytes(texts["test.csv"].encode().replace("Ω".encode(), b"\xe9"))
    with pytest.raises(DataError, match=r"test.csv is not a text table.*utf-8"):
        prepare_streamed(recipe_of(MADE, texts), LAYOUT, lambda: files)
    monkeypatch.setattr("ctrlib.data.batch_read.LARGEST_LINE", 2000)
    files["test.csv"].write_text('a,b\n1,"2\n' + "1,2\n" * 2000)
    with pytest.raises(DataError, match=r"test.csv: a quotation mark opens a cell that does not end"):
        list(read_batches(files["test.csv"], ["a", "b"], ["a"], batch_bytes=100))


def test_without_polars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = made_files()
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(DataError, match="pip install polars"):
        prepare_streamed(recipe_of(MADE, texts), LAYOUT, lambda: write(tmp_path, texts))


# Interruptions


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Recipe, dict[str, Path]]]:
    """An encoding that was killed while it wrote the validation split."""
    texts = made_files()
    files, recipe = write(tmp_path, texts), recipe_of(MADE, texts)
    whole = stream_encode_module.write_split

    def killed(folder: Path, chunks: Iterator[object]) -> int:
        if folder.name == "valid":
            next(iter(chunks))
            raise KeyboardInterrupt
        return whole(folder, chunks)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(stream_encode_module, "write_split", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_streamed(recipe, LAYOUT, lambda: files, 2000)
    yield recipe, files


def test_an_interrupted_encoding_goes_on(
    interrupted: tuple[Recipe, dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, files = interrupted
    (part,) = (tmp_path / "cache" / "encoded").glob("made-*")
    assert part.suffix == ".part" and (part / "train.json").exists() and not (part / "valid").exists()
    (part / ".valid.999.part").mkdir()  # what a killed process leaves
    written = []
    whole = stream_encode_module.write_split
    monkeypatch.setattr(
        stream_encode_module, "write_split", lambda folder, chunks: written.append(folder.name) or whole(folder, chunks)
    )
    data = prepare_streamed(recipe, LAYOUT, lambda: files)
    assert written == ["valid", "test"]
    assert_same(data, prepare(replace(recipe, checksums={}), lambda: LAYOUT.read(files)))
    (folder,) = (tmp_path / "cache" / "encoded").glob("made-*")
    assert sorted(child.name for child in folder.iterdir()) == ["about.json", *sorted(SPLITS)]
    monkeypatch.setattr(stream_encode_module, "read_batches", lambda *_, **__: pytest.fail("read again"))
    assert prepare_streamed(recipe, LAYOUT, lambda: pytest.fail("asked for files")).fingerprint == data.fingerprint


@pytest.mark.parametrize("damage", ["ids", "about"])
def test_a_damaged_folder_is_made_again(damage: str, tmp_path: Path) -> None:
    texts = made_files()
    files, recipe = write(tmp_path, texts), recipe_of(MADE, texts)
    first = prepare_streamed(recipe, LAYOUT, lambda: files)
    (folder,) = (tmp_path / "cache" / "encoded").glob("made-*")
    path = folder / {"ids": "train/ids.npy", "about": "about.json"}[damage]
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match="damaged"):
        assert prepare_streamed(recipe, LAYOUT, lambda: files).fingerprint == first.fingerprint


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    texts = made_files()
    files, recipe = write(tmp_path, texts), recipe_of(MADE, texts)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "encoded").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"could not be written.*CTRLIB_CACHE"):
        prepare_streamed(recipe, LAYOUT, lambda: files)


def test_counting_keeps_the_counts_when_it_adds_up_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    import polars

    monkeypatch.setattr(stream_encode_module, "MERGE_TEXTS", 20)
    tally, draw = stream_encode_module._Tally(), np.random.RandomState(0)
    texts = [str(n) for n in draw.randint(0, 60, 900)]
    for start in range(0, 900, 30):
        tally.add(polars.Series("any", texts[start : start + 30]))
        assert tally.waiting <= 2 * 60 + 60
    assert dict(tally.total().rows()) == {text: texts.count(text) for text in set(texts)}


# Measurement


def test_encoding_of_a_made_up_file_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTRLIB_ROOT", str(tmp_path))
    monkeypatch.setattr(bench, "CHUNK", 300)
    monkeypatch.setattr(bench, "last_line", lambda command, *_: bench.encode_file(Path(command[-1])))
    bench.write_criteo(tmp_path / "train.txt", 700)
    frame = DATASETS["criteo-raw"].read({"train.txt": tmp_path / "train.txt"})["all"]
    assert len(frame) == 700 and frame["C3"].str.fullmatch("[0-9a-f]{8}").all() and set(frame["Label"]) == {"0", "1"}
    (found,) = bench.measure_encode(700, 1, 1).values()
    recipe = replace(recipe_of(DATASETS["criteo-raw"], {}, name="criteo-made"), min_count=10, split_seed=2024)
    memory = prepare(recipe, lambda: {"all": frame})
    assert found["fingerprint"] == memory.fingerprint and found["table_rows"] == memory.schema.table_rows
    assert found["rows"] == 700 and found["seconds"]["repeats"] == 1 and found["peak_memory_mb"] > 0
    assert measurement("encode") == {"700 rows (1 threads)": found}
    with pytest.raises(SettingError, match="rows must be at least 10, not 9"):
        bench.measure_encode(9, 1, 1)
