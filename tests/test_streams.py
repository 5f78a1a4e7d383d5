"""What streams do beside a teacher: shares, agreement, errors, interaction maps, and the file that keeps them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ctrlib.data import CTRDataset, Field, Schema
from ctrlib.errors import RecordError
from ctrlib.lab import runner, streams
from ctrlib.lab.case_study import cases_path
from ctrlib.lab.interactions import interaction_map, likeness
from ctrlib.lab.records import read_record, write_record
from ctrlib.lab.run import Run
from ctrlib.lab.streams import (
    agreement,
    columns,
    inherited,
    measure,
    measure_runs,
    quiet_units,
    shares,
    stored,
    tails,
)
from ctrlib.models import CTRModel, build_model
from ctrlib.models.base import Origin
from ctrlib.train import Protocol

GDCN: dict[str, Any] = {"embedding_dim": 4, "hidden_units": (6, 5), "cross_layers": 2, "dropout": 0.0}
SMALL: dict[str, Any] = {"embedding_dim": 4, "hidden_units": (8, 6), "parallel_units": (7, 5), "dropout": 0.0}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- shares ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shares_sum_to_one(count: int) -> None:
    z = drawn(count, 300) * torch.arange(1, count + 1)[:, None] + 7.0
    assert sum(shares(z)) == pytest.approx(1.0, abs=1e-12)


def test_shares_of_equal_constant_and_opposed_streams() -> None:
    z = drawn(300)
    assert shares(torch.stack([z, z])) == pytest.approx([0.5, 0.5])
    assert shares(torch.stack([z, torch.full_like(z, 3.0)])) == pytest.approx([1.0, 0.0], abs=1e-12)
    assert shares(torch.stack([3 * z, -z])) == pytest.approx([1.5, -0.5]), "a stream that works against the sum"
    assert shares(torch.stack([z, 3 * z + 5])) == pytest.approx([0.25, 0.75]), "means do not count"


# --- tails -------------------------------------------------------------------------------------------------


def test_tails_count_extreme_logits_and_cut_them_off() -> None:
    z = torch.tensor([0.0, 5.0, -7.0, 60.0], dtype=torch.float64)
    y = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    found = tails(z, y)
    assert found["extreme"] == 0.5
    expected = F.binary_cross_entropy_with_logits(torch.tensor([0.0, 5.0, -6.0, 6.0], dtype=torch.float64), y)
    assert found["clipped_logloss"] == pytest.approx(float(expected))
    assert tails(z[:2], y[:2])["clipped_logloss"] == pytest.approx(
        float(F.binary_cross_entropy_with_logits(z[:2], y[:2]))
    )


def test_quiet_units_are_those_below_epsilon(tiny: CTRDataset) -> None:
    model = build_model("DS-MLP", tiny.schema, stage="align", **SMALL)
    assert quiet_units(model) == 0.0
    model.main.norm.running_var[:3] = 1e-9  # of 6 units, beside 5 of the parallel stream
    assert quiet_units(model) == pytest.approx(3 / 11)
    assert quiet_units(build_model("DS-MLP", tiny.schema, stage="align", hidden_alignment="none", **SMALL)) == 0.0
    assert quiet_units(build_model("DNN", tiny.schema)) == 0.0


def test_ranks_do_not_see_extreme_logits() -> None:
    z = drawn(400)
    pulled = torch.where(z > z.quantile(0.99), 1e4 * z, z)
    found = agreement(pulled, z)
    assert found["rank"] == pytest.approx(1.0) and found["correlation"] < 0.9


# --- agreement ---------------------------------------------------------------------------------------------


def test_equal_predictions_agree() -> None:
    z = drawn(200)
    found = agreement(z, z)
    assert found["correlation"] == pytest.approx(1.0)
    assert found["squared"] == found["logit_mean"] == found["logit_root"] == 0.0


def test_agreement_is_symmetric_and_in_the_units_of_logits() -> None:
    z, other = drawn(200), drawn(200, seed=1)
    assert agreement(z, other) == pytest.approx(agreement(other, z))
    moved = agreement(z + 2.0, z)
    assert (moved["correlation"], moved["logit_mean"], moved["logit_root"]) == pytest.approx((1.0, 2.0, 2.0))


@pytest.mark.parametrize("seed", range(5))
def test_distances_of_logits_bound_the_difference_of_logloss(seed: int) -> None:
    a, b = 5 * drawn(100, seed=seed), 5 * drawn(100, seed=seed + 50)
    labels = (drawn(100, seed=seed + 100) > 0).double()
    risks = [float(F.binary_cross_entropy_with_logits(z, labels)) for z in (a, b)]
    found = agreement(a, b)
    assert abs(risks[0] - risks[1]) <= found["logit_mean"] <= found["logit_root"]


# --- errors ------------------------------------------------------------------------------------------------


def test_errors_by_hand() -> None:
    labels = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    teacher = torch.tensor([-5.0, -5.0, 5.0, 5.0, 1.0, -5.0])  # errs confidently on rows 0, 1 and 3
    model = torch.tensor([-4.0, 2.0, -4.0, 0.1, 4.0, -1.0])
    assert inherited(model, teacher, labels) == {
        "rows": 6,
        "confident": 3,
        "kept": 1,
        "wrong": 2,
        "mended": 1,
        "new": 2,
    }


def test_a_model_inherits_all_errors_from_itself_and_has_no_new_ones() -> None:
    z, labels = 4 * drawn(500), (drawn(500, seed=1) > 0).float()
    found = inherited(z, z, labels)
    assert found["confident"] > 20 and found["kept"] == found["wrong"] == found["confident"]
    assert found["mended"] == found["new"] == 0
    assert inherited(-z, z, labels)["kept"] == 0


@pytest.mark.parametrize("seed", range(4))
def test_counts_add_up(seed: int) -> None:
    model, teacher = 3 * drawn(400, seed=seed), 3 * drawn(400, seed=seed + 10)
    labels = (drawn(400, seed=seed + 20) > 0).float()
    found = inherited(model, teacher, labels)
    assert found["kept"] <= found["wrong"] <= found["confident"]
    assert found["wrong"] + found["mended"] == found["confident"]
    confident = inherited(model, model, labels)["confident"]
    assert found["kept"] + found["new"] == confident, "each confident error of the model is the teacher's too, or new"


# --- interactions ------------------------------------------------------------------------------------------

SCHEMA = Schema((Field("a"), Field("b"), Field("c", "sequence", max_len=2), Field("d")), (9, 7, 8, 6))


def rows_of(count: int = 400) -> Tensor:
    """Ids of all fields, (N, 5): the sequence has two columns."""
    generator = torch.Generator().manual_seed(3)
    parts = []
    for (start, stop), offset, size in zip(SCHEMA.columns, SCHEMA.offsets, SCHEMA.vocab_sizes, strict=True):
        parts.append(torch.randint(1, size, (count, stop - start), generator=generator) + offset)
    return torch.cat(parts, dim=1)


def of_field(number: int, seed: int) -> Any:
    """A random function of one field's ids, (B, C) -> (B,)."""
    values = drawn(SCHEMA.table_rows, seed=seed)
    start, stop = SCHEMA.columns[number]
    return lambda ids: values[ids[:, start:stop]].sum(dim=1)


def test_a_sum_of_functions_of_single_fields_has_an_empty_map() -> None:
    parts = [of_field(number, seed=number) for number in range(4)]
    found = interaction_map(lambda ids: sum(part(ids) for part in parts)[None], rows_of(), SCHEMA)
    assert found.shape == (1, 4, 4) and float(found.abs().max()) < 1e-12


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (2, 3), (0, 3)])
def test_a_product_lights_its_own_pair_alone(first: int, second: int) -> None:
    f, g, h = of_field(first, seed=1), of_field(second, seed=2), of_field((first + 2) % 4, seed=3)
    (found,) = interaction_map(lambda ids: (f(ids) * g(ids) + h(ids))[None], rows_of(), SCHEMA)
    lit = torch.zeros(4, 4, dtype=torch.bool)
    lit[first, second] = lit[second, first] = True
    assert torch.equal(found > 1e-9, lit)


def test_a_product_of_three_fields_lights_its_three_pairs() -> None:
    parts = [of_field(number, seed=number) for number in (0, 1, 3)]
    (found,) = interaction_map(lambda ids: (parts[0](ids) * parts[1](ids) * parts[2](ids))[None], rows_of(), SCHEMA)
    assert float(found[2].abs().max()) < 1e-12
    assert all(found[i, j] > 0.1 for i, j in ((0, 1), (0, 3), (1, 3)))


def test_maps_are_symmetric_with_a_zero_diagonal_and_in_the_outputs_unit() -> None:
    network = build_model("DNN", SCHEMA, seed=1, embedding_dim=4, hidden_units=(8,), dropout=0.0).eval()
    torch.nn.init.normal_(network.embedding.weight)
    found = interaction_map(lambda ids: torch.stack([network(ids), 3 * network(ids)]), rows_of(), SCHEMA)
    assert torch.equal(found, found.transpose(1, 2))
    assert float(found.diagonal(dim1=1, dim2=2).abs().max()) == 0.0 < float(found.min(dim=0).values.max())
    assert torch.allclose(found[1], 3 * found[0], rtol=1e-4)
    again = interaction_map(lambda ids: network(ids)[None], rows_of(), SCHEMA)
    assert torch.equal(again[0], found[0]), "the same pairs of rows each time"
    other = interaction_map(lambda ids: network(ids)[None], rows_of(), SCHEMA, seed=1)
    assert not torch.equal(other[0], found[0])


def test_the_value_of_a_map_row_by_row() -> None:
    f, g = of_field(0, seed=1), of_field(1, seed=2)
    ids = rows_of(50)
    (found,) = interaction_map(lambda x: (f(x) * g(x))[None], ids, SCHEMA, rows=20, seed=5)
    generator = torch.Generator().manual_seed(5)
    first, second = (torch.randint(50, (20,), generator=generator) for _ in range(2))
    expected = ((f(ids[first]) - f(ids[second])) * (g(ids[first]) - g(ids[second]))).abs().mean()
    assert float(found[0, 1]) == pytest.approx(float(expected))


def test_likeness() -> None:
    square = drawn(5, 5)
    square = square + square.T
    assert likeness(square, square) == pytest.approx(1.0)
    assert likeness(square, 3 * square + 2) == pytest.approx(1.0), "of patterns, whatever their strength"
    assert likeness(square, -square) == pytest.approx(-1.0)
    moved = square.clone().fill_diagonal_(99.0)
    assert likeness(square, moved) == pytest.approx(1.0), "the diagonal does not count"


# --- a whole model -----------------------------------------------------------------------------------------


def taught(tiny: CTRDataset, **settings: Any) -> tuple[CTRModel, CTRModel]:
    """A distilling DS-MLP and its teacher, with embeddings large enough to matter."""
    teacher = build_model("GDCN", tiny.schema, seed=2, **GDCN).eval()
    torch.nn.init.normal_(teacher.embedding.weight, generator=torch.Generator().manual_seed(4))
    told = {"stage": "distill", "teacher": "GDCN", "teacher_settings": GDCN}
    model = build_model("DS-MLP", tiny.schema, seed=3, **SMALL, **told, **settings).eval()
    model.start_from(Origin("GDCN", dataclasses.asdict(teacher.settings), tiny.schema, dict(teacher.state_dict())))
    return model, teacher


@pytest.mark.parametrize("parallels", [0, 1, 2])
def test_all_streams_are_measured(parallels: int, tiny: CTRDataset) -> None:
    model, teacher = taught(tiny, parallels=parallels)
    found = measure(model, teacher, tiny)
    names = {0: ["main"], 1: ["main", "parallel"], 2: ["main", "parallel 1", "parallel 2"]}[parallels]
    assert list(found["streams"]) == list(found["share"]) == names
    assert sum(found["share"].values()) == pytest.approx(1.0, abs=1e-6)
    assert set(found["errors"]) == set(found["interactions"]["likeness"]) == {"whole", *names}
    assert set(found["interactions"]["maps"]) == {"teacher", "whole", *names}
    assert ("between" in found["agreement"]) == (parallels > 0)
    assert found["interactions"]["fields"] == ["a", "b", "c"]


def test_a_teacher_beside_itself(tiny: CTRDataset) -> None:
    _, teacher = taught(tiny)
    found = measure(teacher, teacher, tiny)
    assert list(found["streams"]) == ["main"] and found["share"] == {"main": 1.0}
    assert found["agreement"]["main"]["correlation"] == pytest.approx(1.0)
    assert found["interactions"]["likeness"]["main"] == pytest.approx(1.0)
    assert found["whole"] == found["teacher"] == found["streams"]["main"]
    assert found["errors"]["main"]["kept"] == found["errors"]["main"]["confident"]
    parts = found["teacher_streams"]
    assert parts["explicit_std"] > 0 and parts["implicit_std"] > 0 and -1 <= parts["explicit_correlation"] <= 1


def test_only_a_teacher_with_two_streams_has_shares(tiny: CTRDataset) -> None:
    model, _ = taught(tiny)
    settings = {**GDCN, "structure": "stacked"}
    for other in (build_model("GDCN", tiny.schema, **settings), build_model("QNN-alpha", tiny.schema, embedding_dim=4)):
        assert measure(model, other.eval(), tiny)["teacher_streams"] is None


def test_columns_of_a_measured_run(tiny: CTRDataset) -> None:
    model, teacher = taught(tiny)
    one = {"label": "distilled", "seed": 7, "teacher_run": "t", **measure(model, teacher, tiny)}
    row = columns({"distil/tiny/distilled-0/seed-7.json": one}).iloc[0]
    assert (row["experiment"], row["label"], row["seed"]) == ("distil", "distilled", 7)
    assert row["main_auc"] == one["streams"]["main"]["auc"] and row["teacher_logloss"] == one["teacher"]["logloss"]
    assert row["main_share"] + row["parallel_share"] == pytest.approx(1.0, abs=1e-6)
    assert row["larger_share"] >= 0.5
    for stream in ("main", "parallel", "whole"):
        assert 0 <= row[f"{stream}_kept"] <= row[f"{stream}_wrong"] <= 1 and 0 <= row[f"{stream}_new"] <= 1
    assert columns({}).empty


# --- the file ----------------------------------------------------------------------------------------------


@pytest.fixture
def kept_here(tiny: CTRDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CTRDataset:
    """ml-100k stands for the tiny data set, measurements go to a folder of the test."""
    monkeypatch.setattr(streams, "measured_dir", lambda: tmp_path)
    monkeypatch.setattr(streams, "dataset", lambda name, *others: tiny)
    monkeypatch.setattr(runner, "dataset", lambda name, *others: tiny)
    return tiny


def stages() -> tuple[Run, Run]:
    """A teacher's run and that of its student."""
    protocol = Protocol(batch_size=100, max_epochs=1, embedding_dim=4)
    teacher = Run("teachers", "ml-100k", "GDCN", "GDCN", GDCN, protocol, 1, keep=True)
    told = {**SMALL, "stage": "distill", "teacher": "GDCN", "teacher_settings": GDCN}
    return Run("distil", "ml-100k", "distilled", "DS-MLP", told, protocol, 1, parents=(teacher,), keep=True), teacher


def test_runs_are_measured_once(kept_here: CTRDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stored("ml-100k") == {}
    student, teacher = stages()
    measure_runs([(student, teacher), (teacher, teacher)], jobs=1)
    found = stored("ml-100k")
    assert set(found) == {student.path.as_posix(), teacher.path.as_posix()}
    assert found[student.path.as_posix()]["teacher_run"] == teacher.path.as_posix()
    monkeypatch.setattr(streams, "measure", lambda *a: pytest.fail("a measured run was measured again"))
    measure_runs([(student, teacher)], jobs=1)
    assert stored("ml-100k") == found


def test_what_is_measured_lies_among_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's own runs have paths like the recorded ones; their measurements must not mix."""
    before = streams.measurements_path("ml-100k")
    monkeypatch.setenv("CTRLIB_RECORDS", str(tmp_path / "own"))
    after = streams.measurements_path("ml-100k")
    assert after != before and after.is_relative_to(tmp_path / "own")
    assert cases_path("ml-100k").parent == after.parent


def test_making_weights_again_leaves_a_record_as_it_is(kept_here: CTRDataset, tmp_path: Path) -> None:
    student, teacher = stages()
    measure_runs([(student, teacher)], jobs=1)
    record = tmp_path / "records" / student.path
    marked = {**read_record(record), "mark": "old"}
    record.unlink()
    write_record(record, marked)
    runner.weights_path(student).unlink()
    streams.measurements_path("ml-100k").unlink()
    measure_runs([(student, teacher)], jobs=1)
    assert read_record(record)["mark"] == "old" and len(stored("ml-100k")) == 1


def test_a_damaged_file_is_named(kept_here: CTRDataset, tmp_path: Path) -> None:
    (tmp_path / "streams-ml-100k.json").write_text('{"commit": "x"')
    with pytest.raises(RecordError, match=r"streams-ml-100k\.json cannot be read"):
        stored("ml-100k")
