"""The loop against a plain reference, the schedule, resuming, stages, and errors."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ctrlib import seeds
from ctrlib.data import CTRDataset, Schema, Split
from ctrlib.errors import DataError, DeviceError, SettingError
from ctrlib.lab.tables import papers_table
from ctrlib.models import CTRModel, build_model
from ctrlib.train import Protocol, evaluate, fit, predict
from ctrlib.train.fit import TrainingError, out_of_memory_explained

SMALL = Protocol(batch_size=64, max_epochs=4, patience=9, embedding_regularizer=0.05, embedding_dim=4)


def plain_training(model: CTRModel, data: CTRDataset, protocol: Protocol, seed: int, epochs: int) -> None:
    """The protocol as its source states it: penalty inside the loss, plain Adam, clipping of the whole."""
    optimiser = torch.optim.Adam(model.parameters(), lr=protocol.learning_rate)
    model.train()
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(data.train), generator=seeds.stream(seed, "batches", epoch))
        for rows in order.split(protocol.batch_size):
            logits = model(data.train.ids[rows])
            loss = F.binary_cross_entropy_with_logits(logits, data.train.labels[rows].double())
            loss = loss + protocol.embedding_regularizer / 2 * model.embedding.weight.square().sum()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), protocol.max_gradient_norm)
            optimiser.step()


@pytest.mark.parametrize("clip", [10.0, 0.01])
def test_fit_equals_the_plain_loop(tiny: CTRDataset, clip: float) -> None:
    protocol = SMALL.replace(max_gradient_norm=clip, max_epochs=2, learning_rate=0.01)
    ours = build_model("T9", tiny.schema, seed=3, embedding_dim=4, dropout=0.0).double()
    plain = build_model("T9", tiny.schema, seed=3, embedding_dim=4, dropout=0.0).double()
    result = fit(ours, tiny, protocol, seed=3)
    plain_training(plain, tiny, protocol, 3, result.best_epoch)
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_schedule_and_early_stopping(tiny: CTRDataset) -> None:
    result = fit(build_model("T9", tiny.schema, seed=1), tiny, Protocol(batch_size=64), seed=1)
    rate, best, failures = 1e-3, -1.0, 0
    for epoch in result.epochs:
        assert failures < 2, "training went on after two epochs without a gain"
        assert epoch.learning_rate == pytest.approx(rate)
        if epoch.valid_auc > best + 1e-6:
            best, failures = epoch.valid_auc, 0
        else:
            failures, rate = failures + 1, max(rate * 0.1, 1e-6)
    assert failures == 2
    assert result.best_epoch == len(result.epochs) - 2
    assert result.valid.auc == best == result.epochs[result.best_epoch - 1].valid_auc


def seen_by(model: CTRModel, batches: list[Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the model's training loss, which now notes the ids of each batch."""
    original = model.training_loss

    def noted(ids: Tensor, labels: Tensor) -> Tensor:
        batches.append(ids)
        return original(ids, labels)

    return noted


def test_two_models_see_the_same_batches(tiny: CTRDataset) -> None:
    seen: dict[str, list[Tensor]] = {"T9": [], "T18": []}
    for name, batches in seen.items():
        model = build_model(name, tiny.schema, seed=5)
        model.training_loss = seen_by(model, batches)  # type: ignore[method-assign]
        fit(model, tiny, SMALL.replace(max_epochs=2), seed=5)
    assert len(seen["T9"]) == len(seen["T18"]) == 20
    assert all(torch.equal(a, b) for a, b in zip(seen["T9"], seen["T18"], strict=True))
    assert not torch.equal(seen["T9"][0], seen["T9"][10]), "each epoch has its own order"


def test_training_rows_are_scored_with_the_best_weights(tiny: CTRDataset) -> None:
    model = build_model("T19", tiny.schema, seed=1)
    result = fit(model, tiny, SMALL, seed=1)
    rows = [int(k * 599 / 199 + 1e-9) for k in range(200)]  # 200 of 600, evenly spaced, rounded down
    expected = evaluate(model, Split(tiny.train.ids[rows], tiny.train.labels[rows]))
    assert result.train == expected


def test_same_seed_same_bits_other_seed_other_bits(tiny: CTRDataset) -> None:
    def run(seed: int) -> Tensor:
        model = build_model("T19", tiny.schema, seed=seed)
        fit(model, tiny, SMALL, seed=seed)
        return model.embedding.weight.detach()

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_several_passes_and_own_loss(tiny: CTRDataset) -> None:
    model = build_model("T19", tiny.schema, loss="self-ensemble", passes=3)
    passes: list[Tensor] = []
    original = model.interact
    model.interact = lambda e: (passes.append(e), original(e))[1]  # type: ignore
    fit(model, tiny, SMALL.replace(max_epochs=1, batch_size=600))
    assert len(passes) == 3 + 4  # three passes of the only step, then four evaluations of one pass
    assert passes[0] is passes[1] is passes[2], "one look-up serves all passes"


KILLED = """
import os, signal, sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_train import SMALL
from ctrlib.data import CTRDataset, Field, Schema
from conftest import random_split
from ctrlib.lab.tables import papers_table
from ctrlib.models import build_model
from ctrlib.train import fit
g = torch.Generator().manual_seed(0)
schema = Schema((Field("a"), Field("b"), Field("c")), (7, 9, 5))
parts = [random_split(n, schema, g) for n in (600, 200, 200)]
data = CTRDataset("tiny", schema, *parts, "0" * 16, {})
model = build_model("T9", schema, seed=9, batch_norm=True)
steps, step = [], model.training_loss
def counted(ids, labels):
    steps.append(1)
    if len(steps) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(ids, labels)
model.training_loss = counted
result = fit(model, data, SMALL, seed=9, checkpoint_path=Path(sys.argv[2]), identity={"run": 1})
torch.save([model.state_dict(), [vars(e) for e in result.epochs], len(steps)], sys.argv[2] + ".done")
"""


def run_killed(checkpoint: Path, at_step: int) -> int:
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(checkpoint), str(at_step)]
    return subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False).returncode


def test_sigkill_and_start_again_gives_the_same_bits(tmp_path: Path) -> None:
    assert run_killed(tmp_path / "whole.pt", 0) == 0
    assert run_killed(tmp_path / "cut.pt", 25) == -signal.SIGKILL  # in the middle of the third epoch
    assert not (tmp_path / "cut.pt.done").exists()
    assert run_killed(tmp_path / "cut.pt", 0) == 0
    whole, epochs, steps = torch.load(tmp_path / "whole.pt.done", weights_only=True)
    cut, cut_epochs, cut_steps = torch.load(tmp_path / "cut.pt.done", weights_only=True)
    assert (steps, cut_steps) == (40, 20), "the second start went on after two epochs"
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    for a, b in zip(epochs, cut_epochs, strict=True):
        assert {k: v for k, v in a.items() if "seconds" not in k} == {k: v for k, v in b.items() if "seconds" not in k}


def test_checkpoint_of_other_settings_or_damaged_is_not_used(tiny: CTRDataset, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    protocol = SMALL.replace(max_epochs=1)
    fit(build_model("T9", tiny.schema), tiny, protocol, checkpoint_path=path, identity={"seed": 0})
    counted: list[int] = []
    other = {"seed": 1}
    model = build_model("T9", tiny.schema)
    fit(model, tiny, protocol, checkpoint_path=path, identity=other, on_epoch=lambda e: counted.append(1))
    assert counted == [1]
    path.write_bytes(path.read_bytes()[:100])
    fit(model, tiny, protocol, checkpoint_path=path, identity=other, on_epoch=lambda e: counted.append(1))
    assert counted == [1, 1]


def test_one_class_in_validation_fails_before_training(tiny: CTRDataset) -> None:
    broken = replace(tiny, valid=Split(tiny.valid.ids, torch.zeros(len(tiny.valid))))
    with pytest.raises(DataError, match=r"AUC is undefined: all \d+ labels of the validation split are 0"):
        fit(build_model("T9", tiny.schema), broken, SMALL)


def test_diverged_training_says_so(tiny: CTRDataset) -> None:
    with pytest.raises(TrainingError, match="Lower the learning rate"):
        fit(build_model("T21", tiny.schema), tiny, Protocol(batch_size=64, learning_rate=1e6))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_absent_gpu_and_unknown_device(tiny: CTRDataset) -> None:
    model = build_model("T9", tiny.schema)
    with pytest.raises(DeviceError, match="sees no GPU"):
        fit(model, tiny, SMALL, device="cuda")
    with pytest.raises(DeviceError, match="is not a device"):
        fit(model, tiny, SMALL, device="gpu")


def test_out_of_memory_names_the_setting() -> None:
    for error in (MemoryError("x"), torch.OutOfMemoryError("CUDA out of memory")):
        with pytest.raises(DeviceError, match="lower batch_size"), out_of_memory_explained():
            raise error
    with pytest.raises(DeviceError, match="lower batch_size"), out_of_memory_explained():
        torch.empty(1 << 60)


def test_protocol_rejects_what_it_does_not_know() -> None:
    assert Protocol.named("qnn", "frappe_x1-rebuilt").embedding_regularizer == 0.1
    assert Protocol.named("bars").embedding_dim == 10
    with pytest.raises(SettingError, match=r"Unknown preset 'qn'\. Did you mean 'qnn'"):
        Protocol.named("qn")
    with pytest.raises(SettingError, match="Did you mean 'batch_size'"):
        Protocol.named("qnn", batchsize=3)


def test_the_preset_of_the_logs_has_their_settings() -> None:
    names = {"Criteo": "criteo_x4", "Frappe": "frappe_x1", "KKBox": "kkbox_x1", "ML-1M": "ml-1m"}
    names |= {"Tenrec": "tenrec_x1", "iPinYou": "ipinyou_x1"}
    logged = papers_table("qnn_alpha_runs")
    assert set(logged["dataset"]) == set(names)
    for row in logged.itertuples():
        preset = Protocol.named("qnn", names[row.dataset])
        for name in ("embedding_dim", "batch_size", "embedding_regularizer", "min_count"):
            assert getattr(preset, name) == getattr(row, name), (row.log, name)


def test_data_without_a_preset_keeps_the_minimum_count_of_its_card() -> None:
    assert Protocol.named("bars", "avazu_x4").min_count == 2 and Protocol.named("bars", "criteo_x4").min_count == 10
    assert Protocol.named("bars", "frappe_x1").min_count == 1, "as the leaderboard has it"
    assert Protocol.named("qnn", "table").min_count == 1
    with pytest.raises(SettingError, match="must be positive"):
        Protocol(patience=0)
    with pytest.raises(SettingError, match="cannot be negative"):
        Protocol(embedding_regularizer=-1.0)


def test_evaluate_does_not_change_the_model(tiny: CTRDataset) -> None:
    model = build_model("T9", tiny.schema, batch_norm=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert evaluate(model, tiny.test) == evaluate(model, tiny.test)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["T9", "QNN-alpha", "FINAL"])
def test_a_single_row_that_is_left_over_joins_the_batch_before(tiny: CTRDataset, name: str) -> None:
    data = replace(tiny, train=tiny.train.take(129))
    result = fit(build_model(name, data.schema, seed=1), data, SMALL.replace(batch_size=64, max_epochs=1))
    assert math.isfinite(result.epochs[0].train_loss)


def test_a_checkpoint_without_a_name_is_used_for_the_same_run_alone(tiny: CTRDataset, tmp_path: Path) -> None:
    def scores(seed: int, first: int, protocol: Protocol) -> float:
        model = build_model("T9", tiny.schema, seed=first)
        return fit(model, tiny, protocol, seed=seed, checkpoint_path=tmp_path / "state").test.logloss

    one = scores(1, 1, SMALL)
    assert scores(1, 1, SMALL) == one
    assert len({one, scores(2, 1, SMALL), scores(1, 2, SMALL), scores(1, 1, SMALL.replace(learning_rate=0.01))}) == 4


def test_a_model_of_other_data_is_refused(tiny: CTRDataset) -> None:
    fields = tuple(replace(field, name=f"{field.name}_") for field in tiny.schema.fields)
    other = build_model("LR", Schema(fields, tiny.schema.vocab_sizes))
    with pytest.raises(DataError, match="another schema than that of"):
        fit(other, tiny, SMALL)
    smaller = build_model("LR", Schema(tiny.schema.fields, tuple(size - 1 for size in tiny.schema.vocab_sizes)))
    with pytest.raises(DataError, match="other fields or tokens"):
        evaluate(smaller, tiny.test)
    with pytest.raises(DataError, match=r"such as data\.test"):
        evaluate(other, tiny)  # type: ignore[arg-type]


def test_arguments_of_another_kind_are_named(tiny: CTRDataset, tmp_path: Path) -> None:
    model = build_model("LR", tiny.schema)
    with pytest.raises(SettingError, match="model is 'DNN'"):
        fit("DNN", tiny, SMALL)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="data is a list"):
        fit(model, [1, 2], SMALL)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="not a Tensor"):
        predict(model, tiny.test.ids)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"data\.schema"):
        build_model("LR", tiny)  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="None"):
        fit(model, tiny, SMALL, device=None)  # type: ignore[arg-type]


def test_a_checkpoint_that_is_no_state_is_not_used(tiny: CTRDataset, tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "c.pt")
    model = build_model("LR", tiny.schema)
    assert len(fit(model, tiny, SMALL.replace(max_epochs=1), checkpoint_path=tmp_path / "c.pt").epochs) == 1


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("max_epochs", 1.5, "a whole number"),
        ("max_epochs", "ten", "a whole number"),
        ("learning_rate", (0, 1), "a number"),
        ("learning_rate", math.nan, "a number"),
        ("learning_rate_factor", -1.0, "must be positive"),
        ("min_delta", -0.1, "cannot be negative"),
        ("preset", None, "a text"),
    ],
)
def test_a_protocol_refuses_values_of_another_kind(setting: str, value: Any, words: str) -> None:
    with pytest.raises(SettingError, match=f"{setting} .*{words}"):
        Protocol(**{setting: value})


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        ("T9", {"layers": "two"}, "layers of model T9 is 'two'; it must be a whole number"),
        ("T9", {"layers": True}, "a whole number"),
        ("T9", {"dropout": "high"}, "dropout of model T9 is 'high'; it must be a number"),
        ("DNN", {"batch_norm": 1}, "True or False"),
        ("LR", {"loss": 3}, "a text"),
    ],
)
def test_a_model_refuses_settings_of_another_kind(
    tiny: CTRDataset, model: str, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingError, match=words):
        build_model(model, tiny.schema, **settings)


def test_numbers_of_numpy_are_as_good_as_pythons(tiny: CTRDataset) -> None:
    settings = {"hidden_units": np.array([8, 4]), "embedding_dim": np.int64(4), "dropout": np.float32(0.5)}
    found = build_model("DNN", tiny.schema, **settings).settings
    assert json.loads(json.dumps(asdict(found)))["hidden_units"] == [8, 4]
    assert json.dumps(Protocol(max_epochs=np.int64(3), learning_rate=np.float64(0.1)).to_dict())
