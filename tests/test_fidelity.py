"""The study of a known truth, second derivatives, and single rows: what they are on cases with a known answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from ctrlib.data import CTRDataset
from ctrlib.ds_mlp import DSMLP
from ctrlib.errors import RecordError, SettingError
from ctrlib.lab import case_study, fidelity, runner
from ctrlib.lab.case_study import Predicted, measure_cases, predicted, stored_cases, train_in_memory
from ctrlib.lab.claims import evaluate_claims
from ctrlib.lab.fidelity import (
    CELLS,
    GDCN,
    LOGIT_STD,
    SCHEMA,
    SLOPES,
    TOKENS,
    Cell,
    best_sum,
    clicks,
    combinations,
    likeness_to_others,
    maps_of,
    measure_cell,
    measure_fidelity,
    of_streams,
    on_vectors,
    over_seeds,
    scores,
    second_differences,
    slopes,
    stored_study,
    stream_logits,
    study_runs,
    train_cell,
    truth,
)
from ctrlib.lab.interactions import second_derivatives
from ctrlib.lab.run import Run
from ctrlib.models import CTRModel, build_model
from ctrlib.train import Protocol


@pytest.fixture(scope="module", autouse=True)
def few_other_rows() -> Iterator[None]:
    """Validation and test splits of the study are small here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity, "OTHER_ROWS", 600)
        fidelity._teachers.cache_clear()
        yield
        fidelity._teachers.cache_clear()


@pytest.fixture(scope="module")
def networks() -> dict[str, CTRModel]:
    """A cell of the study, trained for two passes over few clicks."""
    return train_cell(1, Cell(rows=600, width=6), max_epochs=2)


# --- the truth and its clicks ------------------------------------------------------------------------------


def test_combinations_are_all_and_each_once() -> None:
    ids = combinations()
    assert len({tuple(row) for row in ids.tolist()}) == len(ids) == TOKENS**3
    for column, (offset, size) in enumerate(zip(SCHEMA.offsets, SCHEMA.vocab_sizes, strict=True)):
        assert ids[:, column].min() == offset + 1 and ids[:, column].max() == offset + size - 2


def test_the_truth_has_the_scale_it_is_said_to_have() -> None:
    z = truth(3)(combinations()).detach()
    assert float(z.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(z.std()) == pytest.approx(LOGIT_STD, rel=1e-5)
    assert torch.equal(z, truth(3)(combinations())) and not torch.equal(z, truth(4)(combinations()))


def test_clicks_follow_the_truth() -> None:
    law = truth(1)
    data = clicks(law, 1, 40_000)
    p = torch.sigmoid(law(data.train.ids)).detach()
    for low, high in ((0.0, 0.2), (0.4, 0.6), (0.8, 1.0)):
        part = (p >= low) & (p < high)
        noise = 4 * float((p[part] * (1 - p[part])).mean().sqrt()) / int(part.sum()) ** 0.5
        assert float(data.train.labels[part].mean()) == pytest.approx(float(p[part].mean()), abs=noise)
    again = clicks(law, 1, 40_000)
    assert torch.equal(data.train.ids, again.train.ids) and torch.equal(data.valid.labels, again.valid.labels)
    assert not torch.equal(data.valid.ids[:500], data.test.ids[:500])


def test_best_sum_is_the_nearest_sum_of_single_fields() -> None:
    cube = torch.randn(TOKENS, TOKENS, TOKENS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fitted = best_sum(cube.flatten())
    codes = torch.nn.functional.one_hot(combinations().long() - torch.tensor(SCHEMA.offsets) - 1, TOKENS)
    design = codes.flatten(1).double().numpy()
    solution = np.linalg.lstsq(design, cube.flatten().numpy(), rcond=None)[0]
    assert np.allclose(fitted.numpy(), design @ solution, atol=1e-9)
    assert torch.allclose(best_sum(fitted), fitted), "a sum is its own nearest sum"


# --- a cell ------------------------------------------------------------------------------------------------


def test_the_teachers_parts_and_bias_make_its_logit(networks: dict[str, CTRModel]) -> None:
    found = stream_logits(networks)
    bias = networks["teacher"].head.bias.detach()  # type: ignore[union-attr]
    assert torch.allclose(found["cross part"] + found["MLP part"] - bias, found["teacher"], atol=1e-5)
    assert torch.allclose((found["main"] + found["parallel"]) / 2, found["whole"], atol=1e-5)
    assert torch.equal(found["truth"], networks["truth"](combinations()).detach())


def test_scores_by_hand(networks: dict[str, CTRModel]) -> None:
    found = stream_logits(networks)
    scored = scores(found)
    assert set(scored) == set(found) - {"truth"}
    p, q = (torch.sigmoid(found[name].double()) for name in ("student", "truth"))
    assert scored["student"]["mse"] == pytest.approx(float(((p - q) ** 2).mean()))
    assert scored["teacher"]["teacher_mse"] == 0.0 and scored["teacher"]["scale"] == pytest.approx(1.0)
    longer = scores({"truth": found["truth"], "teacher": found["teacher"], "copy": 2 * found["teacher"] + 1})["copy"]
    assert longer["scale"] == pytest.approx(2.0)
    assert longer["correlation"] == pytest.approx(scored["teacher"]["correlation"])
    exact = scores({"truth": found["truth"], "teacher": found["teacher"], "copy": found["truth"]})["copy"]
    assert exact["mse"] == exact["logit_mse"] == 0.0 and exact["correlation"] == pytest.approx(1.0)


def test_the_student_starts_from_its_teacher_and_alignment_from_the_student() -> None:
    found = train_cell(2, Cell(rows=300, width=4), max_epochs=1)
    distilled, aligned = found["distilled"], found["aligned"]
    assert isinstance(distilled, DSMLP) and isinstance(aligned, DSMLP)
    assert distilled.teacher is not None
    assert torch.equal(distilled.teacher.state_dict()["cross.maps.0.weight"], found["teacher"].cross.maps[0].weight)  # type: ignore[union-attr,index]
    assert [len(linear.bias) for linear in aligned.parallels[0].body.linears] == [4, 4, 4]  # type: ignore[union-attr,index]
    assert not hasattr(found["cross network"], "mlp") or found["cross network"].mlp is None


def test_a_cell_alone_gives_what_it_gives_among_others() -> None:
    def scored(**changes: Any) -> dict[str, dict[str, float]]:
        return scores(stream_logits(train_cell(5, Cell(rows=300, width=4, changes=changes), max_epochs=1)))

    alone = scored()
    assert scored(distill_weight=0.0)["student"] != alone["student"]
    assert scored() == alone
    fidelity._teachers.cache_clear()
    assert scored() == alone


def test_an_exact_teacher_is_the_truth_and_only_the_student_is_scored() -> None:
    found = measure_cell(1, "exact, rows=2000", max_epochs=2)
    assert set(found) == {"teacher", "student"}
    assert found["teacher"]["mse"] == 0.0 and found["student"]["mse"] == found["student"]["teacher_mse"]
    assert set(measure_cell(1, "aligned, rows=2000", max_epochs=1)) == {"teacher", "student"}


def test_an_unknown_cell() -> None:
    with pytest.raises(SettingError, match="Did you mean 'width=64'"):
        measure_cell(1, "width=63")


# --- records -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Measurements go to a folder of the test."""
    monkeypatch.setattr(fidelity, "measurements_dir", lambda: tmp_path)
    monkeypatch.setattr(case_study, "measured_dir", lambda: tmp_path)
    return tmp_path


def made_up(error: float = 0.01) -> dict[str, dict[str, dict[str, float]]]:
    """Scores of all cells: the student's error falls like the inverse of the rows, the others' stay."""
    names = ("teacher", "student", "main", "parallel", "whole", "MLP", "cross part", "cross network", "best sum")
    one = {"mse": error, "logit_mse": 0.5, "teacher_mse": error, "teacher_logit_mse": 0.4, "correlation": 0.9}
    cells = {name: {stream: {**one, "scale": 1.0} for stream in names} for name in CELLS}
    for name, cell in CELLS.items():
        cells[name]["student"] |= {"mse": 40 / cell.rows, "teacher_mse": 20 / cell.rows}
    return cells


def test_only_missing_seeds_are_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def measured(seed: int) -> dict[str, Any]:
        asked.append(seed)
        return {"commit": "abc", "environment": {"device_name": "x"}, "cells": made_up(0.01234567891)}

    monkeypatch.setattr(fidelity, "_measure_seed", measured)
    assert stored_study() == {}
    measure_fidelity([2, 1], jobs=1)
    measure_fidelity([1, 2, 3], jobs=1)
    assert asked == [2, 1, 3] and sorted(stored_study()) == [1, 2, 3]
    found = json.loads((folder / "fidelity.json").read_text())
    assert found["tokens"] == TOKENS and found["protocol"]["batch_size"] == fidelity.PROTOCOL.batch_size
    assert stored_study()[1]["cells"]["reference"]["parallel"]["mse"] == 0.0123457
    assert not list(folder.glob("*.part"))
    (folder / "fidelity.json").write_text("{")
    with pytest.raises(RecordError, match=r"fidelity\.json cannot be read"):
        stored_study()


def test_what_is_measured_of_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "CELLS", {"small": Cell(rows=300, width=4)})
    monkeypatch.setattr(fidelity, "PROTOCOL", fidelity.PROTOCOL.replace(max_epochs=1))
    found = fidelity._measure_seed(1)
    assert found["environment"]["precision"] == "fp32" and set(found["cells"]) == {"small"}


def test_runs_for_claims_and_slopes() -> None:
    runs = study_runs({seed: made_up() for seed in (1, 2, 3, 4)})
    assert set(runs.query("cell == 'width=8'")["width"]) == {8}
    fits = slopes(runs)
    assert set(fits["label"]) == {f"slope, {name}" for name in SLOPES} and len(fits) == 4 * len(SLOPES)
    assert fits["slope"].to_numpy() == pytest.approx(-1.0) and fits["slope_truth"].to_numpy() == pytest.approx(-1.0)
    judged = evaluate_claims(pd.concat([runs, fits]), "fidelity", "polynomial").set_index("id")
    assert judged.loc["student-below-parallel", "outcome"] == "reproduced"
    assert judged.loc["error-falls-exact-teacher", "outcome"] == "reproduced"
    assert judged.loc["main-below-parallel", "outcome"] == "undecided", "made up to be equal"
    assert slopes(runs.query("cell != 'rows=4000'")).query("label == 'slope, as written'").empty
    assert slopes(study_runs({})).empty


def test_means_over_seeds() -> None:
    frame = pd.DataFrame({"label": ["a", "a", "b"], "seed": [1, 2, 1], "x": [1.0, 3.0, 5.0]})
    found = over_seeds(frame, ["b", "c", "a"], ["x"]).set_index("label")
    assert list(found.index) == ["b", "a"] and found.loc["a", "x"] == 2.0 and found.loc["a", "seeds"] == 2
    assert found.loc["a", "x_low"] < 2.0 < found.loc["a", "x_high"] and np.isnan(found.loc["b", "x_low"])
    assert over_seeds(pd.DataFrame(), ["a"], ["x"]).empty


# --- Eq. 12 ------------------------------------------------------------------------------------------------


def test_second_derivatives_of_a_known_function() -> None:
    e = torch.randn(40, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def outputs(x: Tensor) -> Tensor:
        return (x[:, 0] * x[:, 1]).sum(dim=1) + x[:, 2].exp().sum(dim=1)

    found = second_derivatives(outputs, e)
    assert found.mean[0, 1].item() == pytest.approx(0.5, rel=1e-5) == found.mean[1, 0].item()
    assert float(found.mean[0, 2]) == float(found.mean[1, 2]) == float(found.mean.diagonal().abs().max()) == 0.0
    assert found.zero == pytest.approx(5 / 6), "of six ordered pairs of fields two interact, at half their coordinates"


def test_a_relu_network_has_none_and_gdcn_has(networks: dict[str, CTRModel]) -> None:
    for name in ("distilled", "MLP"):
        torch.nn.init.normal_(networks[name].embedding.weight, generator=torch.Generator().manual_seed(1))
        found = second_derivatives(*on_vectors(networks[name]))
        assert found.zero == 1.0 and float(found.mean.abs().max()) == 0.0
        assert float(second_differences(networks[name])[0, 1]) > 1e-3, "between values of fields it does interact"
    law = second_derivatives(*on_vectors(networks["truth"]))
    assert law.zero < 0.01 and float(law.mean[0, 1]) > 1e-3
    assert torch.allclose(law.mean, law.mean.T, rtol=1e-4)


# --- what was measured on real data ------------------------------------------------------------------------


def one_run(label: str, seed: int, **errors: int) -> dict[str, Any]:
    """The measurements of a made-up run with two streams."""
    part = {"auc": 0.8, "logloss": 0.4 + 0.01 * seed}
    counts = {"rows": 1000, "confident": 20, "kept": 10, "wrong": 16, "mended": 4, "new": 5, **errors}
    square = [[0.0, 1.0, 3.0], [1.0, 0.0, 2.0 + seed], [3.0, 2.0 + seed, 0.0]]
    names = ("whole", "main", "parallel")
    return {
        "label": label,
        "seed": seed,
        "teacher_run": f"teachers/toy/GDCN-0/seed-{seed}.json",
        "whole": part,
        "teacher": {"auc": 0.79, "logloss": 0.38},
        "streams": dict.fromkeys(names[1:], part),
        "agreement": {name: {"correlation": 0.9, "logit_mean": 0.2} for name in names},
        "errors": dict.fromkeys(names, counts),
        "interactions": {
            "fields": ["a", "b", "c"],
            "maps": {"teacher": square, **{name: [[2 * v for v in row] for row in square] for name in names}},
            "likeness": dict.fromkeys(names, 0.9),
        },
    }


def test_streams_of_measured_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {f"distil/toy/distilled-0/seed-{seed}.json": one_run("distilled", seed) for seed in (1, 2)}
    found["align/toy/distilled-0/seed-1.json"] = one_run("distilled", 1)
    other = one_run("distilled", 3) | {"teacher_run": "teachers/toy/DCNv2-0/seed-3.json"}
    found["distil/toy/distilled-0/seed-3.json"] = other
    monkeypatch.setattr(fidelity, "stored", lambda name: found)
    wanted = {"student": ("distil", "distilled", "main"), "teacher": ("distil", "distilled", "teacher")}
    frame = of_streams("toy", "case-study", wanted)
    assert sorted(zip(frame["label"], frame["seed"], strict=True)) == [
        ("student", 1),
        ("student", 2),
        ("teacher", 1),
        ("teacher", 2),
    ]
    row = frame.query("label == 'student' and seed == 2").iloc[0]
    assert (row["kept"], row["wrong"], row["mended"], row["new"]) == (0.5, 0.8, 0.2, 0.005)
    assert row["confident"] == 0.015 and row["unshared"] == pytest.approx(1 / 3)
    assert row["risk_gap"] == pytest.approx(0.04) and row["strength"] == 2.0 and row["teacher_auc"] == 0.79
    assert frame.query("label == 'teacher' and seed == 1").iloc[0]["confident"] == 0.02
    assert of_streams("toy", "case-study", {"x": ("distil", "distilled", "parallel 2")}).empty


def test_likeness_to_the_teachers_of_other_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {f"distil/toy/distilled-0/seed-{seed}.json": one_run("distilled", seed) for seed in (1, 2)}
    monkeypatch.setattr(fidelity, "stored", lambda name: found)
    place = ("distil", "distilled", "main")
    assert set(maps_of("toy", place)) == {1, 2} and fidelity.fields_of("toy") == ["a", "b", "c"]
    frame = likeness_to_others("toy", place, "others")
    expected = np.corrcoef([1, 3, 3], [1, 3, 4])[0, 1]
    assert frame["likeness"].to_numpy() == pytest.approx([expected, expected]) and set(frame["label"]) == {"others"}
    monkeypatch.setattr(fidelity, "stored", lambda name: {})
    assert likeness_to_others("toy", place, "others").empty and fidelity.fields_of("toy") == []


def test_no_row_counts_as_unshared_where_a_model_never_errs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"distil/toy/d-0/seed-1.json": one_run("d", 1, kept=0, new=0, confident=0, wrong=0, mended=0)}
    monkeypatch.setattr(fidelity, "stored", lambda name: found)
    row = of_streams("toy", "case-study", {"d": ("distil", "d", "whole")}).iloc[0]
    assert np.isnan(row["unshared"]) and row["kept"] == row["confident"] == 0.0


# --- single rows -------------------------------------------------------------------------------------------


def predictions(rows: int = 200) -> Predicted:
    generator = torch.Generator().manual_seed(0)
    teacher, student = (3 * torch.randn(rows, generator=generator) for _ in range(2))
    return Predicted((torch.rand(rows, generator=generator) < 0.5).float(), {"teacher": teacher, "student": student})


def test_the_worst_rows_of_the_teacher_are_shown() -> None:
    found = predictions()
    cases = found.cases(count=10)
    assert set(cases.groupby(["group", "sample"]).size()) == {3}, "label, teacher and student of every row"
    errs = cases[(cases["group"] == "the teacher errs") & (cases["model"] == "teacher")]
    assert len(errs) == 10 and errs["clicked"].sum() == 5
    p = torch.sigmoid(found.logits["teacher"])
    for clicked in (True, False):
        wrong = torch.where(found.labels > 0.5, 1 - p, p)[(found.labels > 0.5) == clicked]
        shown = errs[errs["clicked"] == clicked]["probability"]
        shown = 1 - shown if clicked else shown
        assert sorted(shown) == pytest.approx(sorted(wrong.topk(5).values.tolist()), abs=1e-4)
    drawn = cases[cases["group"] == "any row"]
    assert drawn["row"].nunique() == 10
    assert found.cases(count=10).equals(cases) and not found.cases(count=10, seed=1).equals(cases)
    assert list(found.errors()["model"]) == ["student"]


def chain(tiny: CTRDataset) -> Run:
    """An aligned run with its student and teacher."""
    protocol = Protocol(batch_size=100, max_epochs=5, embedding_dim=4)
    small = {"embedding_dim": 4, "hidden_units": (8,), "parallel_units": (7,), "dropout": 0.0}
    taught = {"embedding_dim": 4, "hidden_units": (6,), "cross_layers": 2}
    teacher = Run("teachers", "ml-100k", "GDCN", "GDCN", taught, protocol, 1, keep=True)
    told = {**small, "stage": "distill", "teacher": "GDCN", "teacher_settings": taught}
    student = Run("distil", "ml-100k", "distilled", "DS-MLP", told, protocol, 1, parents=(teacher,), keep=True)
    return Run(
        "align", "ml-100k", "DS-MLP", "DS-MLP", {**small, "stage": "align"}, protocol, 1, parents=(student,), keep=True
    )


@pytest.fixture
def on_tiny(tiny: CTRDataset, monkeypatch: pytest.MonkeyPatch) -> CTRDataset:
    """ml-100k stands for the tiny data set."""
    for module in (case_study, runner):
        monkeypatch.setattr(module, "dataset", lambda name, *others: tiny)
    return tiny


def test_stages_in_memory_are_those_of_a_grid(on_tiny: CTRDataset, folder: Path) -> None:
    run = chain(on_tiny)
    assert [one.label for one in run.lineage] == ["GDCN", "distilled", "DS-MLP"]
    models, data = train_in_memory([run, run])
    assert data is on_tiny and len(models) == 3
    names = dict(zip(("teacher", "student", "DS-MLP"), run.lineage, strict=True))
    now = predicted({name: models[one.path] for name, one in names.items()}, data)
    assert list(now.logits) == ["teacher", "student", "DS-MLP", "DS-MLP, main", "DS-MLP, parallel"]
    assert torch.allclose((now.logits["DS-MLP, main"] + now.logits["DS-MLP, parallel"]) / 2, now.logits["DS-MLP"])
    assert stored_cases("ml-100k").empty
    measure_cases(names, jobs=1)
    recorded = stored_cases("ml-100k")
    assert recorded.equals(now.cases()[list(recorded.columns)])
    told = json.loads((folder / "cases-ml-100k.json").read_text())
    assert told["runs"]["DS-MLP"] == run.path.as_posix()


def test_a_smaller_protocol_for_all_stages(on_tiny: CTRDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(case_study, "fit", lambda model, data, protocol, **_: seen.append(protocol.max_epochs))
    train_in_memory([chain(on_tiny)], max_epochs=2)
    assert seen == [2, 2, 2]


def test_damaged_cases_are_named(folder: Path) -> None:
    (folder / "cases-toy.json").write_text('{"cases"')
    with pytest.raises(RecordError, match=r"cases-toy\.json cannot be read"):
        stored_cases("toy")


def test_a_model_with_one_stream_has_no_others(tiny: CTRDataset) -> None:
    models = {"teacher": build_model("GDCN", tiny.schema, **{**GDCN, "embedding_dim": 4})}
    models["plain"] = build_model("DNN", tiny.schema, embedding_dim=4, hidden_units=(5,))
    assert list(predicted(models, tiny).logits) == ["teacher", "plain"]
