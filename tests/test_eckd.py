"""ECKD: loss and gradients against slow float64 code, teachers that stay as they are, what it accepts to start from."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ctrlib.data import CTRDataset, Field, Schema
from ctrlib.eckd import ECKD
from ctrlib.errors import SettingError
from ctrlib.lab import Grid, run_grid, runner, verify
from ctrlib.lab.records import Record, frame, read_record
from ctrlib.lab.run import Run
from ctrlib.models import CTRModel, build_model
from ctrlib.train import Protocol, evaluate, fit, load_model, save_weights

SHORT = Protocol(batch_size=60, max_epochs=2, embedding_dim=4, embedding_regularizer=0.01)
STUDENT: dict[str, Any] = {"embedding_dim": 4, "hidden_units": (8, 6), "dropout": 0.0}
CROSS: dict[str, Any] = {"hidden_units": (6, 5), "cross_layers": 1, "dropout": 0.0}
DEEPER: dict[str, Any] = {**CROSS, "cross_layers": 2, "batch_norm": True, "dropout": 0.3}
TEACHERS: tuple[tuple[str, dict[str, Any]], ...] = (("DCNv2", CROSS), ("FM", {"embedding_dim": 3}), ("DCNv2", DEEPER))
Array = NDArray[np.float64]


def teachers_of(tiny: CTRDataset) -> list[CTRModel]:
    """Three models whose logits are far from each other and from 0."""
    models = []
    for k, (name, settings) in enumerate(TEACHERS):
        model = build_model(name, tiny.schema, seed=k, **{"embedding_dim": 4, **settings})
        torch.nn.init.normal_(model.embedding.weight, generator=torch.Generator().manual_seed(k))
        models.append(model.eval())
    return models


def student_of(tiny: CTRDataset, *, filled: bool = True, **settings: Any) -> ECKD:
    model = build_model("ECKD", tiny.schema, seed=1, **STUDENT | {"teachers": TEACHERS} | settings)
    assert isinstance(model, ECKD)
    for teacher in teachers_of(tiny) if filled else []:
        model.start_from(teacher.origin())
    return model


def shaken(tiny: CTRDataset, **settings: Any) -> ECKD:
    """A student in float64 whose own weights are all away from 0."""
    model = student_of(tiny, **settings).double().train()
    stream = torch.Generator().manual_seed(3)
    for value in model.parameters():
        if value.requires_grad:
            value.data = 0.7 * torch.randn(value.shape, dtype=torch.float64, generator=stream)
    return model


def batch(tiny: CTRDataset) -> tuple[Tensor, Tensor]:
    return tiny.train.ids[:40], tiny.train.labels[:40].double()


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def bce(p: float, t: float) -> float:
    return -(t * math.log(p) + (1 - t) * math.log(1 - p))


def slow(tiny: CTRDataset, model: ECKD, kappa: float, tau: float, gated: bool) -> dict[str, Any]:
    """The loss and its gradients with respect to the last layer and the gate, one sample at a time."""
    ids, labels = batch(tiny)
    told = [teacher.double()(ids).tolist() for teacher in teachers_of(tiny)]
    w = {name: value.detach().numpy() for name, value in model.named_parameters()}
    maps = [name.removesuffix(".weight") for name in w if name.startswith("mlp.") and name.endswith(".weight")]
    M, B, loss = len(told), len(labels), 0.0
    head, head_bias, gate_w, gate_b = np.zeros(6), 0.0, np.zeros(M), np.zeros(M)
    for b, row in enumerate(ids.tolist()):
        h: Array = np.concatenate([w["embedding.weight"][i] for i in row])
        for name in maps[:-1]:
            h = np.maximum(w[f"{name}.weight"] @ h + w[f"{name}.bias"], 0)
        z = float(w[f"{maps[-1]}.weight"][0] @ h + w[f"{maps[-1]}.bias"][0])
        z_M = [one[b] for one in told]
        e = [math.exp(w["gate.weight"][i] * z_M[i] + w["gate.bias"][i]) if gated else 1.0 for i in range(M)]
        alpha = [one / sum(e) for one in e]
        each = [bce(sigmoid(z / tau), sigmoid(z_M[i] / tau)) for i in range(M)]
        soft = sum(a * one for a, one in zip(alpha, each, strict=True))
        y = float(labels[b])
        loss += (bce(sigmoid(z), y) + kappa * soft) / B
        dz = sigmoid(z) - y
        dz += kappa * sum(a * (sigmoid(z / tau) - sigmoid(t / tau)) / tau for a, t in zip(alpha, z_M, strict=True))
        head += dz * h / B
        head_bias += dz / B
        for i in range(M):
            gate_b[i] += kappa * alpha[i] * (each[i] - soft) / B
            gate_w[i] += kappa * alpha[i] * (each[i] - soft) * z_M[i] / B
    found = {"loss": loss, f"{maps[-1]}.weight": head[None], f"{maps[-1]}.bias": np.array([head_bias])}
    return found | ({"gate.weight": gate_w, "gate.bias": gate_b} if gated else {})


@pytest.mark.parametrize("weighting", ["learned", "mean"])
@pytest.mark.parametrize(("kappa", "tau"), [(1.0, 1.0), (0.4, 3.0)])
def test_loss_and_gradients_sample_by_sample(kappa: float, tau: float, weighting: str, tiny: CTRDataset) -> None:
    model = shaken(tiny, distill_weight=kappa, temperature=tau, weighting=weighting)
    expected = slow(tiny, model, kappa, tau, weighting == "learned")
    loss = model.training_loss(*batch(tiny))
    loss.backward()  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(loss.item(), expected.pop("loss"), rtol=1e-10)
    gradients = {name: value.grad for name, value in model.named_parameters()}
    for name, wanted in expected.items():
        found = gradients[name]
        assert found is not None and np.abs(wanted).min() > 0
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10, atol=1e-14, err_msg=name)
    for name, value in model.named_parameters():
        learns = not name.startswith("teachers.")
        assert value.requires_grad == learns and (value.grad is not None and bool(value.grad.any())) == learns, name


def test_every_term_moves_the_student(tiny: CTRDataset) -> None:
    ids, labels = batch(tiny)

    def gradient(model: ECKD, labels: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(model.training_loss(ids, labels), [model.embedding.weight])
        return found

    model = shaken(tiny)
    whole = gradient(model, labels)
    assert not torch.allclose(gradient(model, 1 - labels), whole), "the labels"
    assert not torch.allclose(gradient(shaken(tiny, distill_weight=0.0), labels), whole), "the teachers"
    for k in range(len(TEACHERS)):
        other = shaken(tiny)
        other.teacher(k).embedding.weight.mul_(1.5)
        assert not torch.allclose(gradient(other, labels), whole), k
    none = shaken(tiny, distill_weight=0.0)
    plain = F.binary_cross_entropy_with_logits(none(ids), labels)
    torch.testing.assert_close(gradient(none, labels), torch.autograd.grad(plain, [none.embedding.weight])[0])


def test_the_gate_starts_as_the_mean_and_then_tells_samples_apart(tiny: CTRDataset) -> None:
    model = student_of(tiny)
    logits_MB = model.teacher_logits(tiny.test.ids)
    third = torch.full((3, 200), 1 / 3)
    torch.testing.assert_close(model.teacher_weights(logits_MB), third)
    torch.testing.assert_close(student_of(tiny, weighting="mean").teacher_weights(logits_MB), third)
    fit(model, tiny, SHORT, seed=1)
    weights_MB = model.teacher_weights(logits_MB).detach()
    torch.testing.assert_close(weights_MB.sum(dim=0), torch.ones(200))
    assert (weights_MB.std(dim=1) > 1e-4).all()


def test_training_leaves_the_teachers_as_they_were(tiny: CTRDataset) -> None:
    """Bit for bit, with the running means of a batch norm, whatever mode they were in; all else moves."""
    model = student_of(tiny)
    model.teachers.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert any("running_mean" in name for name in before)
    fit(model, tiny, SHORT, seed=1)
    model.train()
    assert model.training and not any(module.training for module in model.teachers.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("teachers."), name
    for teacher, wanted in zip(model.teachers, teachers_of(tiny), strict=True):
        assert torch.equal(teacher(tiny.test.ids), wanted(tiny.test.ids))


def test_without_a_weight_it_is_the_dnn(tiny: CTRDataset) -> None:
    """The same initial values, batches and dropout masks, so the same bits."""
    settings = STUDENT | {"dropout": 0.2, "batch_norm": True}
    plain = build_model("DNN", tiny.schema, seed=1, **settings)
    model = student_of(tiny, distill_weight=0.0, **settings)
    assert torch.equal(model.eval()(tiny.test.ids), plain.eval()(tiny.test.ids))
    wanted, found = (fit(one, tiny, SHORT, seed=1) for one in (plain, model))
    assert [e.train_loss for e in found.epochs] == [e.train_loss for e in wanted.epochs]
    assert found.test == wanted.test
    assert fit(student_of(tiny, **settings), tiny, SHORT, seed=1).test != wanted.test, "with a weight it is not"


def test_sizes_and_what_runs_at_inference(tiny: CTRDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = build_model("DNN", tiny.schema, seed=1, **STUDENT).num_parameters
    rows, width = tiny.schema.table_rows * 4, 3 * 4
    assert plain == rows + width * 8 + 8 + 8 * 6 + 6 + 6 + 1
    assert student_of(tiny, weighting="mean").num_parameters == plain
    model = student_of(tiny)
    assert model.num_parameters == plain + 2 * 3
    assert [id(p) for p in model.embedding_parameters()] == [id(model.embedding.weight)], "no table of a teacher"
    for k in range(3):
        monkeypatch.setattr(model.teacher(k), "forward", lambda ids: pytest.fail("a teacher was computed"))
    model(tiny.test.ids).sum().backward()
    assert sum(p.numel() for p in model.parameters() if p.grad is not None) == plain
    evaluate(model, tiny.test)


def test_impossible_settings(tiny: CTRDataset) -> None:
    for settings, message in [
        ({"teachers": ()}, "give at least one pair"),
        ({"teachers": "DCNv2"}, "teachers is 'DCNv2'; give"),
        ({"teachers": ["DCNv2"]}, "give at least one pair"),
        ({"teachers": [("DCNv2", {}), "FM"]}, "give at least one pair"),
        ({"teachers": [("DCNv2", 3)]}, "give at least one pair"),
        ({"teachers": [("DCNv2x", {})]}, "Did you mean 'DCNv2'"),
        ({"teachers": [("DCNv2", {"cross_layer": 2})]}, "Did you mean 'cross_layers'"),
        ({"teachers": [("ECKD", {})]}, "cannot be the teacher of an ECKD"),
        ({"teachers": [("DCNv2", {}), ("FM", {}), ("DCNv2", {"embedding_dim": 4})]}, "the same DCNv2 twice"),
        ({"distill_weight": -1.0}, "distill_weight is -1"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"weighting": "means"}, "Did you mean 'mean'"),
        ({"loss": "self-ensemble", "passes": 2}, "its own loss"),
        ({"passes": 2}, "its own loss"),
    ]:
        with pytest.raises(SettingError, match=message):
            build_model("ECKD", tiny.schema, **STUDENT | {"teachers": TEACHERS} | settings)


def test_it_refuses_weights_that_do_not_fit_and_training_without(tiny: CTRDataset) -> None:
    model = student_of(tiny, filled=False)
    cross, machine, deeper = (teacher.origin() for teacher in teachers_of(tiny))
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def refused(message: str, **changes: Any) -> None:
        with pytest.raises(SettingError, match=message):
            model.start_from(dataclasses.replace(cross, **{"label": "its file", **changes}))

    wider = Schema(tuple(Field(n) for n in "abc"), (7, 9, 6))
    refused("its file belongs to another data schema", schema=wider)
    refused("its file is a GDCN; the teachers here are DCNv2, FM, DCNv2", model="GDCN")
    other = {**cross.settings, "cross_layers": 3}
    refused(
        "its file is no teacher here. It has cross_layers = 3; wanted is 1, or it has dropout = 0.0", settings=other
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for origin, missing in ((None, "DCNv2, FM, DCNv2"), (deeper, "DCNv2, FM"), (machine, "DCNv2")):
        if origin:
            model.start_from(origin)
        with pytest.raises(SettingError, match=f"no weights yet: {missing}. Give"):
            fit(model, tiny, SHORT)
    model.start_from(cross)
    found = [teacher.state_dict() for teacher in model.teachers]
    for origin, state in zip((cross, machine, deeper), found, strict=True):
        assert all(torch.equal(value, origin.tensors[name]) for name, value in state.items())
    fit(model, tiny, SHORT)


def test_weights_in_a_file_give_back_the_model(tiny: CTRDataset, tmp_path: Path) -> None:
    model = student_of(tiny)
    fit(model, tiny, SHORT, seed=1)
    save_weights(tmp_path / "eckd.safetensors", model, tiny)
    again = load_model(tmp_path / "eckd.safetensors", tiny)
    assert torch.equal(again(tiny.test.ids), model.eval()(tiny.test.ids)) and again.settings == model.settings


# ---- through a grid ----------------------------------------------------------------------------------------


@pytest.fixture
def on_tiny(tiny: CTRDataset, monkeypatch: pytest.MonkeyPatch) -> CTRDataset:
    """ml-100k stands for the tiny data set, in this process alone."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setattr(runner, "dataset", lambda name, *others: tiny)
    return tiny


def family(*labels: str) -> Run:
    """An ECKD whose parents are the runs of these labels; both teachers are a DCNv2."""
    settings = {label: {"embedding_dim": 4, **own} for label, own in (("one", CROSS), ("two", DEEPER))}
    parents = tuple(Run("trial", "ml-100k", label, "DCNv2", settings[label], SHORT, 1, keep=True) for label in labels)
    told = STUDENT | {"teachers": [("DCNv2", own) for own in settings.values()]}
    return Run("trial", "ml-100k", "ECKD", "ECKD", told, SHORT, 1, parents=parents, keep=True)


def made(run: Run) -> Record:
    (record,) = run_grid(Grid("trial", [run]), jobs=1, progress=False)
    return record


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_a_grid_makes_the_teachers_first(order: tuple[str, str], on_tiny: CTRDataset, tmp_path: Path) -> None:
    run = family(*order)
    record = made(run)
    assert record["status"] == "completed" and record["label"] == "ECKD"
    assert record["parent"] == [parent.path.as_posix() for parent in run.parents]
    records = [read_record(tmp_path / "records" / one.path) for one in run.lineage]
    assert [one["label"] for one in records] == [*order, "ECKD"] and len(frame(records)["settings.teachers"]) == 3
    student = load_model(runner.weights_path(run), on_tiny)
    taught = dict(zip(order, (load_model(runner.weights_path(parent), on_tiny) for parent in run.parents), strict=True))
    assert isinstance(student, ECKD)
    for k, label in enumerate(("one", "two")):  # the slots' order, whatever the parents' is
        assert torch.equal(student.teacher(k)(on_tiny.test.ids), taught[label](on_tiny.test.ids))
    assert verify.run_of(record).path == run.path
    for parent in run.parents:
        runner.weights_path(parent).unlink()
    check = verify.check(record, [record], "cpu", 1)
    assert check.agrees and check.difference == 0.0
    assert all(runner.weights_path(parent).exists() for parent in run.parents), "made again for the check"


def test_a_grid_refuses_an_eckd_without_all_its_teachers(on_tiny: CTRDataset) -> None:
    with pytest.raises(SettingError, match="no weights yet: DCNv2"):
        made(family("two"))
