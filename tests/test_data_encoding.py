"""Schema, encoding, bucketing rules and random splits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from ctrlib.data import CTRDataset, Field, Schema, Split
from ctrlib.data.buckets import fit_rule
from ctrlib.data.dataset import SPLITS, fingerprint
from ctrlib.data.encode import Encoded, encode
from ctrlib.data.splits import random_split, subset
from ctrlib.errors import DataError, SettingError


def frames(**columns: list[list[object]]) -> dict[str, pd.DataFrame]:
    """Tables of the three splits from name -> [train cells, valid cells, test cells]; labels alternate."""
    tables = {
        split: pd.DataFrame({name: cells[i] for name, cells in columns.items()}) for i, split in enumerate(SPLITS)
    }
    return {split: table.assign(label=[i % 2 for i in range(len(table))]) for split, table in tables.items()}


def encoded(field: Field, train: list[object], valid: list[object], test: list[object], min_count: int = 1) -> Encoded:
    return encode(frames(**{field.name: [train, valid, test]}), [field], "label", min_count)


def test_schema_counts_rows_and_columns() -> None:
    schema = Schema((Field("a"), Field("s", kind="sequence", max_len=3), Field("b")), (5, 4, 7))
    assert (schema.num_fields, schema.table_rows, schema.num_columns, schema.is_flat) == (3, 16, 5, False)
    assert schema.offsets == (0, 5, 9)
    assert schema.columns == [(0, 1), (1, 4), (4, 5)]
    assert Schema.from_dict(schema.to_dict()) == schema
    assert Schema((Field("a"),), (2,)).is_flat


def test_schema_rejects_what_cannot_be() -> None:
    with pytest.raises(SettingError, match="once"):
        Schema((Field("a"), Field("a")), (3, 3))
    with pytest.raises(SettingError, match="2 rows"):
        Schema((Field("a"),), (1,))
    with pytest.raises(SettingError, match="vocabulary sizes"):
        Schema((Field("a"),), (3, 3))
    values = Schema((Field("a"),), (3,)).to_dict()
    values["fields"][0]["bucket"] = "log2"
    with pytest.raises(SettingError, match="Did you mean 'buckets'"):
        Schema.from_dict(values)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "sequense"}, "Did you mean 'sequence'"),
        ({"max_len": 2}, "only a sequence"),
        ({"kind": "sequence", "max_len": 0}, "max_len"),
        ({"kind": "sequence", "splitter": ""}, "splitter"),
        ({"kind": "numeric"}, "needs buckets"),
        ({"kind": "numeric", "buckets": "log3"}, "Did you mean 'log2'"),
        ({"kind": "numeric", "buckets": "quantile:1"}, "N >= 2"),
        ({"buckets": "log2"}, "only a numeric field"),
    ],
)
def test_field_rejects_wrong_settings(settings: dict[str, object], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        Field("x", **settings)  # type: ignore[arg-type]


def test_ids_are_padding_then_sorted_tokens_then_oov() -> None:
    made = encoded(Field("a"), ["10", "9", "b", "9"], ["zz", "b"], ["10"])
    # Sorted as strings: "10" < "9" < "b". Local ids 1, 2, 3, and 4 for OOV.
    assert made.schema.vocab_sizes == (5,)
    assert made.arrays["train"][0].tolist() == [[1], [2], [3], [2]]
    assert made.arrays["valid"][0].tolist() == [[4], [3]]
    assert made.arrays["train"][0].dtype == np.int32 and made.arrays["train"][1].dtype == np.float32
    assert made.arrays["train"][1].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert made.oov == {"train": {"a": 0}, "valid": {"a": 1}, "test": {"a": 0}}


def test_vocabulary_comes_from_training_and_min_count() -> None:
    made = encoded(Field("a"), ["x", "x", "y"], ["y", "y", "y"], ["x"], min_count=2)
    assert made.schema.vocab_sizes == (3,)
    assert made.arrays["train"][0].tolist() == [[1], [1], [2]]
    assert made.oov == {"train": {"a": 1}, "valid": {"a": 3}, "test": {"a": 0}}


def test_fields_own_separate_rows_of_one_table() -> None:
    tables = frames(a=[["p", "q"], ["p"], ["q"]], b=[["p", "r"], ["r"], ["new"]])
    made = encode(tables, [Field("a"), Field("b")], "label", 1)
    assert made.schema.offsets == (0, 4)
    assert made.arrays["train"][0].tolist() == [[1, 5], [2, 6]]
    assert made.arrays["test"][0].tolist() == [[2, 7]]


def test_every_id_lies_in_its_fields_rows() -> None:
    draw = np.random.RandomState(0)
    tables = frames(
        a=[draw.randint(0, 30, n).tolist() for n in (200, 40, 40)],
        s=[[" ".join(map(str, draw.randint(0, 9, 4))) for _ in range(n)] for n in (200, 40, 40)],
    )
    fields = [Field("a"), Field("s", kind="sequence", max_len=3)]
    made = encode(tables, fields, "label", 3)
    for ids, _ in made.arrays.values():
        for (start, stop), first, size in zip(
            made.schema.columns, made.schema.offsets, made.schema.vocab_sizes, strict=True
        ):
            assert ids[:, start:stop].min() >= first and ids[:, start:stop].max() < first + size


def test_sequence_is_cut_and_padded_at_the_end() -> None:
    field = Field("s", kind="sequence", max_len=2, splitter="|")
    made = encoded(field, ["b|a|c", "a", "", None], ["a|new"], ["c||b"])
    assert made.schema.vocab_sizes == (5,)  # a, b, c, padding, OOV: the token that was cut counts
    assert made.arrays["train"][0].tolist() == [[2, 1], [1, 0], [0, 0], [0, 0]]
    assert made.arrays["valid"][0].tolist() == [[1, 4]]
    assert made.arrays["test"][0].tolist() == [[3, 2]]
    assert made.missing["train"] == {"s": 2} and made.oov["valid"] == {"s": 1}


def test_missing_category_is_oov_and_counted() -> None:
    made = encoded(Field("a"), ["x", "", None], ["x"], [np.nan])
    assert made.arrays["train"][0].tolist() == [[1], [2], [2]]
    assert made.missing == {"train": {"a": 2}, "valid": {"a": 0}, "test": {"a": 1}}
    assert made.oov["train"] == {"a": 2}


def test_whole_numbers_read_as_floats_are_the_same_tokens() -> None:
    made = encoded(Field("a"), ["1", "2"], [1.0, np.nan], [2])
    assert made.arrays["valid"][0].tolist() == [[1], [3]]
    assert made.arrays["test"][0].tolist() == [[2]]


def test_text_storage_does_not_matter() -> None:
    plain = frames(a=[["x", "y", "", "x"], ["y"], ["z"]])
    with pd.option_context("mode.string_storage", "python"):
        stored = {split: table.astype({"a": "string"}) for split, table in plain.items()}
    for other in (stored, {split: table.astype({"a": "category"}) for split, table in plain.items()}):
        for split in SPLITS:
            expected = encode(plain, [Field("a")], "label", 1).arrays[split][0]
            assert (encode(other, [Field("a")], "label", 1).arrays[split][0] == expected).all()


def test_compound_cells_are_explained() -> None:
    with pytest.raises(DataError, match="splitter"):
        encoded(Field("s", kind="sequence", max_len=2), [["a", "b"]], [["a"]], [["b"]])


def test_bucketing_rules() -> None:
    values = np.array([-3.0, 0.0, 1.0, 2.0, 2.5, 100.0])
    assert fit_rule("log2", values)(values).tolist() == ["n", "0", "0", "1", "1", "6"]
    assert fit_rule("criteo", values)(values).tolist() == ["-3", "0", "1", "2", "0", "21"]
    assert fit_rule("decade", values)(np.array([1919.0, 1990.0])).tolist() == ["1910", "1990"]
    quarter = fit_rule("quantile:4", np.arange(100.0))
    assert quarter(np.array([-1.0, 10.0, 30.0, 60.0, 90.0, 1e9])).tolist() == ["0", "0", "1", "2", "3", "3"]


def test_quantiles_are_learned_on_the_training_split() -> None:
    field = Field("x", kind="numeric", buckets="quantile:2")
    made = encoded(field, [1, 2, 3, 4], [1000, 2000], [0, 9])
    assert made.arrays["train"][0].ravel().tolist() == [1, 1, 2, 2]
    assert made.arrays["valid"][0].ravel().tolist() == [2, 2]
    assert made.arrays["test"][0].ravel().tolist() == [1, 2]


def test_random_split_is_fixed_by_its_seed_and_keeps_the_order() -> None:
    table = pd.DataFrame({"a": range(739)})
    first, again, other = (random_split(table, seed, "t") for seed in (1, 1, 2))
    assert {split: len(part) for split, part in first.items()} == {"train": 591, "valid": 73, "test": 75}
    assert sorted(pd.concat(first.values())["a"]) == list(range(739))
    assert all(part["a"].is_monotonic_increasing for part in first.values())
    assert first["valid"].equals(again["valid"]) and not first["valid"].equals(other["valid"])
    # Frozen: numpy promises that this stream never changes.
    assert random_split(table.head(20), 2024, "t")["valid"]["a"].tolist() == [4, 18]
    with pytest.raises(DataError, match="too few"):
        random_split(table.head(9), 1, "t")


def test_subset_takes_the_same_share_of_each_split() -> None:
    tables = frames(a=[list(range(800)), list(range(100)), list(range(100))])
    small = subset(tables, 80, 7)
    assert {split: len(part) for split, part in small.items()} == {"train": 80, "valid": 10, "test": 10}
    assert small["train"]["a"].is_monotonic_increasing
    assert len(subset(tables, 10**6, 7)["train"]) == 800
    assert len(subset(tables, 1, 7)["test"]) == 1


def test_split_and_dataset_move_and_take() -> None:
    split = Split(torch.arange(6, dtype=torch.int32).reshape(3, 2), torch.tensor([0.0, 1.0, 0.0]))
    assert len(split) == 3 and len(split.take(2)) == 2 and len(split.take(9)) == 3
    data = CTRDataset("d", Schema((Field("a"), Field("b")), (3, 3)), split, split, split, "f", {})
    assert data.rows == {"train": 3, "valid": 3, "test": 3}
    moved = data.to("meta")
    assert moved.train.ids.device.type == "meta" and moved.fingerprint == "f"


def test_fingerprint_sees_every_part() -> None:
    schema = Schema((Field("a"),), (5,))
    ids, labels = np.array([[1], [2]], dtype=np.int32), np.array([0, 1], dtype=np.float32)
    arrays = dict.fromkeys(SPLITS, (ids, labels))
    base = fingerprint("d", {"min_count": 1}, schema, arrays)
    assert base == fingerprint("d", {"min_count": 1}, schema, dict(reversed(arrays.items())))
    others = [
        fingerprint("e", {"min_count": 1}, schema, arrays),
        fingerprint("d", {"min_count": 2}, schema, arrays),
        fingerprint("d", {"min_count": 1}, Schema((Field("b"),), (5,)), arrays),
        fingerprint("d", {"min_count": 1}, schema, arrays | {"test": (ids[::-1], labels)}),
        fingerprint("d", {"min_count": 1}, schema, arrays | {"test": (ids, labels[::-1])}),
        fingerprint("d", {"min_count": 1}, schema, arrays | {"train": (ids[:1], labels[:1])}),
    ]
    assert len({base, *others}) == 7
