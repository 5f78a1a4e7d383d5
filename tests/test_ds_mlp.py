"""DS-MLP: losses against slow float64 references, what each setting does, and what a stage accepts to start from."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from ctrlib.data import CTRDataset, Field, Schema
from ctrlib.ds_mlp import DSMLP, MODES, next_settings
from ctrlib.errors import CtrlibError, RecordError, SettingError
from ctrlib.losses import DISTILLATION, distillation_loss
from ctrlib.models import CTRModel, build_model
from ctrlib.train import Protocol, fit, load_model, read_weights, save_weights, start_from
from ctrlib.train.weights import write_tensors

SHORT = Protocol(batch_size=60, max_epochs=2, embedding_dim=4)
TEACHER: dict[str, Any] = {"hidden_units": (6, 5), "cross_layers": 2, "dropout": 0.0}
SMALL: dict[str, Any] = {"embedding_dim": 4, "hidden_units": (8, 6), "parallel_units": (7, 5), "dropout": 0.0}


def teacher_of(tiny: CTRDataset, seed: int = 5) -> CTRModel:
    model = build_model("GDCN", tiny.schema, seed=seed, embedding_dim=4, **TEACHER)
    torch.nn.init.normal_(model.embedding.weight, generator=torch.Generator().manual_seed(seed))
    return model


def student_of(tiny: CTRDataset, stage: str = "distill", **settings: Any) -> DSMLP:
    full = SMALL | {"teacher": "GDCN", "teacher_settings": TEACHER, "stage": stage} | settings
    model = build_model("DS-MLP", tiny.schema, seed=1, **full)
    assert isinstance(model, DSMLP)
    if model.teacher is not None:
        model.start_from(teacher_of(tiny).origin())
    return model


def batch(tiny: CTRDataset) -> tuple[Tensor, Tensor]:
    return tiny.train.ids[:40], tiny.train.labels[:40].double()


def bce(p: float, t: float) -> float:
    return -(t * math.log(p) + (1 - t) * math.log(1 - p))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def slow(name: str, student: list[float], teacher: list[float], tau: float, on: str) -> float:
    """The distillation loss, sample by sample."""
    s, t = [z / tau for z in student], [z / tau for z in teacher]
    if name == "cross-entropy":
        return sum(bce(sigmoid(a), sigmoid(b)) for a, b in zip(s, t, strict=True)) / len(s)
    if name == "kl":
        return sum(bce(sigmoid(a), sigmoid(b)) - bce(sigmoid(b), sigmoid(b)) for a, b in zip(s, t, strict=True)) / len(
            s
        )
    if on == "probabilities":
        s, t = [sigmoid(z) for z in s], [sigmoid(z) for z in t]
    gaps = [b - a for a, b in zip(s, t, strict=True)]
    return sum(g * g for g in gaps) / len(s) if name == "squared" else (sum(gaps) / len(s)) ** 2


@pytest.mark.parametrize("on", ["logits", "probabilities"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name", DISTILLATION)
def test_distillation_losses(name: str, temperature: float, on: str) -> None:
    student, teacher = torch.randn(2, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2
    found = distillation_loss(name, student, teacher, temperature=temperature, on=on)
    expected = slow(name, student.tolist(), teacher.tolist(), temperature, on)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_laws_of_the_distillation_losses() -> None:
    student, teacher = torch.randn(2, 500, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    student.requires_grad_()
    gradients = {}
    for name in DISTILLATION:
        (gradients[name],) = torch.autograd.grad(distillation_loss(name, student, teacher, on="logits"), student)
    torch.testing.assert_close(gradients["cross-entropy"], gradients["kl"])  # the teacher's entropy is constant
    assert (gradients["squared-mean"] > 0).all() or (gradients["squared-mean"] < 0).all(), "one sign for all rows"
    assert (gradients["squared"] > 0).any() and (gradients["squared"] < 0).any()
    mean_square = distillation_loss("squared", student, teacher)
    square_mean = distillation_loss("squared-mean", student, teacher)
    torch.testing.assert_close(mean_square, square_mean + (teacher - student).var(correction=0))
    for name in ("kl", "squared", "squared-mean"):
        assert distillation_loss(name, teacher, teacher).item() == pytest.approx(0, abs=1e-15)


def test_unknown_or_impossible_settings(tiny: CTRDataset) -> None:
    z = torch.zeros(3)
    with pytest.raises(SettingError, match="Did you mean 'squared'"):
        distillation_loss("square", z, z)
    with pytest.raises(SettingError, match="temperature is 0"):
        distillation_loss("kl", z, z, temperature=0)
    for settings, message in [
        ({"alpha": -1.0}, "alpha is -1"),
        ({"beta": -0.1}, "beta is -0.1"),
        ({"distill_weight": -2.0}, "distill_weight is -2"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"hidden_units": ()}, "hidden_units is empty"),
        ({"parallel_units": ()}, "parallel_units is empty"),
        ({"mode": "writen"}, "Did you mean 'written'"),
        ({"stage": "teach"}, "Unknown stage"),
        ({"teacher": "DS-MLP", "teacher_settings": {}}, "cannot be the teacher"),
        ({"teacher": "GDNC"}, "Did you mean 'GDCN'"),
        ({"teacher_settings": {"embedding_dim": 9}}, "embedding_dim is 9"),
        ({"main": "teacher"}, "nothing to distill"),
        ({"loss": "self-ensemble", "passes": 2}, "its own loss"),
        ({"parallels": -1}, "parallels must be"),
    ]:
        full = SMALL | {"teacher": "GDCN", "teacher_settings": TEACHER} | settings
        with pytest.raises(SettingError, match=message):
            build_model("DS-MLP", tiny.schema, **full)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stage", ["distill", "align"])
def test_loss_of_a_stage_by_hand(mode: str, stage: str, tiny: CTRDataset) -> None:
    """Eq. 6 and Eq. 10, row by row from the streams' logits."""
    weights = {"alpha": 0.7, "beta": 1.3, "distill_weight": 0.4}
    model = student_of(tiny, stage, mode=mode, batch_norm=False, **weights).double().eval()
    ids, labels = batch(tiny)
    main, parallel = (z.tolist() for z in model.stream_logits(ids))
    y, rows = labels.tolist(), len(labels)
    alone = mode == "aligned" and stage == "distill"
    whole = main if alone else [(a + b) / 2 for a, b in zip(main, parallel, strict=True)]
    expected = sum(bce(sigmoid(z), t) for z, t in zip(whole, y, strict=True)) / rows
    if stage == "distill":
        teacher = teacher_of(tiny).double().eval()(ids).tolist()
        name, on = MODES[mode]["distillation"], MODES[mode]["distill_on"]
        expected += 0.4 * slow(name, main, teacher, 1.0, on)
    if stage == "align" or mode == "released":
        expected += 0.7 * sum(bce(sigmoid(z), t) for z, t in zip(main, y, strict=True)) / rows
        expected += 1.3 * sum(bce(sigmoid(z), t) for z, t in zip(parallel, y, strict=True)) / rows
    assert model.training_loss(ids, labels).item() == pytest.approx(expected, abs=1e-10)
    assert model(ids).tolist() == pytest.approx(whole, abs=1e-12)


def test_probabilities_are_averaged_on_request(tiny: CTRDataset) -> None:
    model = student_of(tiny, "align", fusion="probabilities", hidden_alignment="none").double().eval()
    streams = model.stream_logits(tiny.test.ids)
    torch.testing.assert_close(torch.sigmoid(model(tiny.test.ids)), torch.sigmoid(streams).mean(dim=0))


def test_hidden_alignment_is_a_plain_batch_norm_of_states(tiny: CTRDataset) -> None:
    model = student_of(tiny, "align", batch_norm=False).double().train()
    ids = tiny.train.ids[:50]
    assert model.main is not None
    h = model.main.body(model.embedding(ids).flatten(1))
    normed = (h - h.mean(dim=0)) / (h.var(dim=0, correction=0) + 1e-5).sqrt()
    expected = F.linear(normed, model.main.head.weight, model.main.head.bias).squeeze(1)
    torch.testing.assert_close(model.stream_logits(ids)[0], expected)
    assert not list(model.main.norm.parameters()), "Eq. 8 has no affine terms"


@pytest.mark.parametrize("streams", ["both", "main", "alone"])
def test_which_streams_learn_in_distillation(streams: str, tiny: CTRDataset) -> None:
    model = student_of(tiny, distill_streams=streams, batch_norm=False)
    before = {name: value.clone() for name, value in model.named_parameters()}
    fit(model, tiny, SHORT.replace(max_epochs=1), seed=1)
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert any(name.startswith("main.") for name in moved)
    assert "embedding.weight" in moved
    assert any(name.startswith("parallel") for name in moved) == (streams == "both")
    assert not any(name.startswith("teacher.") for name in moved)


@pytest.mark.parametrize(("table", "moves"), [("frozen", False), ("shared", True)])
def test_the_teachers_answers_move_only_with_a_shared_table(table: str, moves: bool, tiny: CTRDataset) -> None:
    model = student_of(tiny, teacher_table=table)
    assert model.teacher is not None
    before = model.teacher(tiny.test.ids).detach()
    fit(model, tiny, SHORT.replace(max_epochs=1), seed=1)
    assert not model.teacher.training
    assert torch.equal(before, model.teacher(tiny.test.ids)) != moves


def test_sizes(tiny: CTRDataset) -> None:
    rows, width = tiny.schema.table_rows * 4, 3 * 4
    main, parallel = width * 8 + 8 + 8 * 6 + 6, width * 7 + 7 + 7 * 5 + 5
    plain = {"batch_norm": False}
    for settings, expected in [
        ({}, 2 * rows + main + 7 + parallel + 6),
        ({"batch_norm": True}, 2 * rows + main + 7 + parallel + 6 + 2 * (8 + 6 + 7 + 5)),
        ({"hidden_affine": True}, 2 * rows + main + 7 + parallel + 6 + 2 * (6 + 5)),
        ({"shared_table": True}, rows + main + 7 + parallel + 6),
        ({"parallels": 0}, rows + main + 7),
        ({"parallels": 2}, 3 * rows + main + 7 + 2 * (parallel + 6)),
        ({"main": "cross"}, 2 * rows + 2 * (3 * (width**2 + width) + width + 1)),
        ({"main": "teacher"}, 2 * rows + parallel + 6 + _cross_and_mlp(width)),
    ]:
        assert student_of(tiny, "align", **plain | settings).num_parameters == expected, settings


def _cross_and_mlp(width: int) -> int:
    return 2 * (2 * width**2 + width) + width * 6 + 6 + 6 * 5 + 5 + width + 5 + 1


@pytest.mark.parametrize("teacher", ["DCNv2", "xDeepFM", "AutoInt", "FinalMLP", "DeepFM", "QNN-alpha", "T9"])
@pytest.mark.parametrize("table", ["frozen", "shared"])
def test_any_registered_model_can_teach(teacher: str, table: str, tiny: CTRDataset) -> None:
    one = build_model(teacher, tiny.schema, seed=3, embedding_dim=4)
    settings = SMALL | {"teacher": teacher, "teacher_table": table}
    model = build_model("DS-MLP", tiny.schema, seed=1, **settings)
    model.start_from(one.origin())
    assert isinstance(model, DSMLP) and model.teacher is not None
    one.eval()
    torch.testing.assert_close(model.teacher(tiny.test.ids), one(tiny.test.ids))
    assert torch.equal(model.embedding.weight, one.embedding.weight), "the main stream starts from the teacher's table"
    fit(model, tiny, SHORT.replace(max_epochs=1), seed=1)


def test_three_stages_through_files(tiny: CTRDataset, tmp_path: Path) -> None:
    teacher = teacher_of(tiny)
    save_weights(tmp_path / "teacher.safetensors", teacher, tiny)
    student = build_model("DS-MLP", tiny.schema, seed=1, **SMALL, teacher="GDCN", teacher_settings=TEACHER)
    start_from(student, tmp_path / "teacher.safetensors", tiny)
    fit(student, tiny, SHORT, seed=1)
    save_weights(tmp_path / "distilled.safetensors", student, tiny, seed=1)
    final = build_model("DS-MLP", tiny.schema, seed=1, **SMALL, stage="align")
    start_from(final, tmp_path / "distilled.safetensors", tiny)
    assert isinstance(student, DSMLP) and isinstance(final, DSMLP) and student.main and final.main
    assert torch.equal(final.main.head.weight, student.main.head.weight)
    assert torch.equal(final.embedding.weight, student.embedding.weight)
    fit(final, tiny, SHORT, seed=1)
    save_weights(tmp_path / "final.safetensors", final, tiny)
    again = load_model(tmp_path / "final.safetensors", tiny)
    assert torch.equal(again(tiny.test.ids), final.eval()(tiny.test.ids))


def other_data(tiny: CTRDataset, **changes: Any) -> CTRDataset:
    return dataclasses.replace(tiny, **changes)


def test_a_stage_refuses_what_does_not_fit(tiny: CTRDataset, tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    teacher = teacher_of(tiny)
    save_weights(path, teacher, tiny)
    content = path.read_bytes()

    def refused(message: str, data: CTRDataset = tiny, file: Path = path, **settings: Any) -> None:
        full = SMALL | {"teacher": "GDCN", "teacher_settings": TEACHER} | settings
        with pytest.raises(CtrlibError, match=message):
            start_from(build_model("DS-MLP", data.schema, **full), file, data)

    refused("There are no weights at", file=tmp_path / "none.safetensors")
    refused("with fingerprint 0000000000000000, not on", other_data(tiny, fingerprint="1" * 16))
    wider = Schema(tuple(Field(n) for n in "abc"), (7, 9, 6))
    refused("another data schema", other_data(tiny, schema=wider))
    refused("embedding_dim = 4; wanted is 8", embedding_dim=8)
    refused(r"hidden_units = \(6, 5\); wanted is \(9,\)", teacher_settings={**TEACHER, "hidden_units": (9,)})
    refused("is a GDCN; the teacher here is DCNv2", teacher="DCNv2", teacher_settings={})
    refused("starts from a distilled DS-MLP", stage="align")
    assert path.read_bytes() == content, "the file stays as it was"
    aligned = student_of(tiny, "align")
    save_weights(tmp_path / "aligned.safetensors", aligned, tiny)
    refused("already aligned", file=tmp_path / "aligned.safetensors", stage="align")
    distilled = student_of(tiny, hidden_units=(5,))
    save_weights(tmp_path / "distilled.safetensors", distilled, tiny)
    refused(r"hidden_units = \(5,\); wanted is", file=tmp_path / "distilled.safetensors", stage="align")
    with pytest.raises(SettingError, match="starts from fresh values"):
        start_from(build_model("DNN", tiny.schema), path, tiny)
    untaught = build_model("DS-MLP", tiny.schema, **SMALL, teacher_settings=TEACHER)
    with pytest.raises(SettingError, match="starts from the weights of the stage before"):
        untaught.training_loss(*batch(tiny))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"classifier": {}}, "holds a classifier"),
        ({"model": "GDCN", "settings": {}}, "does not tell its dataset, fingerprint, schema"),
    ],
)
def test_a_file_that_holds_no_model_is_refused(
    header: dict[str, Any], words: str, tiny: CTRDataset, tmp_path: Path
) -> None:
    path = tmp_path / "other.safetensors"
    write_tensors(path, {"a": torch.ones(1)}, header)
    with pytest.raises(RecordError, match=words):
        read_weights(path, tiny)


@pytest.mark.parametrize("header", ["{}", "[]", "null"])
def test_a_header_without_a_digest_is_refused(header: str, tiny: CTRDataset, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(save({"a": torch.ones(1)}, {"ctrlib": header}))
    with pytest.raises(RecordError, match="cannot be read as weights"):
        read_weights(path, tiny)


@pytest.mark.parametrize("damage", ["cut", "changed", "text"])
def test_a_damaged_file_is_refused(damage: str, tiny: CTRDataset, tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    save_weights(path, teacher_of(tiny), tiny)
    content = bytearray(path.read_bytes())
    if damage == "changed":
        content[-3] ^= 0xFF
    path.write_bytes({"cut": bytes(content[:-20]), "changed": bytes(content), "text": b"not weights"}[damage])
    before = path.read_bytes()
    model = build_model("DS-MLP", tiny.schema, **SMALL, teacher_settings=TEACHER)
    with pytest.raises(RecordError, match=r"cannot be read|are damaged"):
        start_from(model, path, tiny)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_old_weights(tiny: CTRDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "teacher.safetensors"
    save_weights(path, teacher_of(tiny), tiny)
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RecordError, match="No space left on device"):
        save_weights(path, teacher_of(tiny, seed=6), tiny)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


STAGES = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from ctrlib.lab import Grid, run_grid
from ctrlib.lab.run import Run
from ctrlib.models.base import CTRModel
from ctrlib.ds_mlp import DSMLP
from ctrlib.train import Protocol
protocol = Protocol(batch_size=512, max_epochs=2, embedding_dim=4)
small = {"embedding_dim": 4, "hidden_units": (8, 6)}
cell = {**small, "parallel_units": (7, 5), "teacher": "GDCN", "teacher_settings": small}
name = "ml-100k"
teacher = Run("t", name, "GDCN", "GDCN", small, protocol, 1, rows=2000, keep=True)
distilled = Run("t", name, "distilled", "DS-MLP", cell, protocol, 1, 2000, (teacher,))
final = Run("t", name, "DS-MLP", "DS-MLP", {**cell, "stage": "align"}, protocol, 1, 2000, (distilled,))
steps, at = [0], int(sys.argv[2])
for kind in (CTRModel, DSMLP):
    def counted(self, ids, labels, step=kind.training_loss):
        steps[0] += 1
        if steps[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, ids, labels)
    kind.training_loss = counted
run_grid(Grid("t", [final]), jobs=1, progress=False)
print(steps[0])
"""


def scores(folder: Path) -> dict[str, Any]:
    import json

    found = {}
    for path in sorted(folder.glob("records/t/*/*/seed-*.json")):
        record = json.loads(path.read_text())
        epochs = [{k: v for k, v in e.items() if "seconds" not in k} for e in record["epochs"]]
        found[path.parent.name] = (record["valid"], record["test"], record["best_epoch"], record["parent"], epochs)
    return found


@pytest.mark.skipif(not os.environ.get("CTRLIB_DATA"), reason="CTRLIB_DATA is not set: ml-100k is not at hand")
def test_killed_inside_and_between_stages_gives_the_same_bits(tmp_path: Path) -> None:
    """Four steps an epoch, two epochs a stage: 8 steps each. Killed in every stage, and at a stage's first step."""

    def run(folder: Path, at: int) -> int:
        env = os.environ | {
            "OMP_NUM_THREADS": "1",
            "CTRLIB_RECORDS": str(folder / "records"),
            "CTRLIB_CACHE": str(folder / "cache"),
        }
        command = [sys.executable, "-c", STAGES, str(Path(__file__).parent), str(at)]
        return subprocess.run(command, env=env, check=False, capture_output=True).returncode

    assert run(tmp_path / "whole", 0) == 0
    whole = scores(tmp_path / "whole")
    assert len(whole) == 3
    for at in (3, 9, 14, 22):
        assert run(tmp_path / f"cut{at}", at) == -signal.SIGKILL
        assert len(scores(tmp_path / f"cut{at}")) < 3
        assert run(tmp_path / f"cut{at}", 0) == 0
        assert scores(tmp_path / f"cut{at}") == whole


def test_what_belongs_to_the_table_is_handed_on_and_older_weights_lack_some(tiny: CTRDataset) -> None:
    teacher = build_model("GDCN", tiny.schema, pooling="sum", embedding_dim=6).origin()
    kept = next_settings(teacher)
    assert (kept["stage"], kept["pooling"], kept["embedding_dim"]) == ("distill", "sum", 6)
    distilled = build_model("DS-MLP", tiny.schema, **kept).origin()
    assert next_settings(distilled)["pooling"] == "sum"
    older = dataclasses.replace(distilled, settings={k: v for k, v in distilled.settings.items() if k != "pooling"})
    assert build_model("DS-MLP", tiny.schema, **next_settings(older)).settings.pooling == "mean"
