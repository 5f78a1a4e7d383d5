"""Matrix products in bfloat16: what they touch, and what stays in float32."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from test_golden_runs import PROTOCOL, SYSTEMS, small_model
from torch import Tensor, nn

from ctrlib.data import CTRDataset
from ctrlib.errors import SettingError
from ctrlib.khatri_rao import MultiHeadKhatriRao
from ctrlib.lab.precision import (
    COMPARED,
    both_precisions,
    coarse_run,
    equality,
    exact_run,
    precision_grid,
    trials,
)
from ctrlib.lab.records import write_record
from ctrlib.lab.run import Run
from ctrlib.lab.runner import make_record
from ctrlib.layers import Bilinear, FeedForward, LogitMap
from ctrlib.layers.precision import products_in
from ctrlib.models import build_model
from ctrlib.paths import records_dir
from ctrlib.train import Protocol, evaluate, fit, predict
from ctrlib.train.fit import Trainer

CPU = torch.device("cpu")


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().to(x.dtype)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_takes_steps_in_bf16(system: str, tiny: CTRDataset) -> None:
    seen = {}
    for precision in ("fp32", "bf16"):
        model = small_model(system, tiny.schema)
        trainer = Trainer(model, tiny, PROTOCOL.replace(precision=precision), 1, CPU)
        model.train()
        ids, labels = tiny.train.ids[:60], tiny.train.labels[:60]
        seen[precision] = [trainer.step(ids, labels).item() for _ in range(3)]
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients and all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)
        assert predict(model, tiny.valid, precision).dtype == torch.float32
    assert seen["bf16"][0] == pytest.approx(seen["fp32"][0], rel=0.01)
    assert seen["bf16"] == pytest.approx(seen["fp32"], rel=0.2)  # some systems magnify any rounding


def test_products_are_in_bf16_and_logits_are_not(tiny: CTRDataset) -> None:
    torch.manual_seed(0)
    linear, head, x = nn.Linear(5, 4), LogitMap(5), torch.randn(7, 5)
    with products_in("bf16", CPU):
        assert linear(x).dtype == torch.bfloat16
        logits, of_rounded = head(x), head(x.bfloat16())
    assert torch.equal(logits, head(x)) and torch.equal(of_rounded, head(rounded(x)))
    with products_in("fp32", CPU):
        assert linear(x).dtype == torch.float32
    model = build_model("DNN", tiny.schema, seed=1, embedding_std=0.5)
    coarse, exact = predict(model, tiny.valid, "bf16"), predict(model, tiny.valid)
    assert not torch.equal(coarse, exact)
    assert torch.allclose(coarse, exact, atol=0.02)
    assert len(coarse.unique()) == len(exact.unique()), "rows that had logits of their own are not tied"


def test_the_head_of_a_model_in_double_precision_stays_there() -> None:
    head = LogitMap(3).double()
    assert head(torch.ones(2, 3, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("name", ["khatri-rao", "feed-forward", "bilinear"])
def test_layers_with_their_own_backward_pass_keep_their_arithmetic(name: str) -> None:
    """What such a layer does with values that bfloat16 can hold is the same to the bit; only linear maps round."""
    torch.manual_seed(0)
    layers = {
        "khatri-rao": MultiHeadKhatriRao(2, 4, rows=3, batch_norm=True, dropout=0.1),
        "feed-forward": FeedForward(8, 16, 0.1),
        "bilinear": Bilinear(8, 4),
    }
    layer = layers[name]
    if name == "khatri-rao":  # a map without rounding: its products and sums have few bits
        nn.init.eye_(layer.map.weight)  # type: ignore[union-attr,arg-type]
        nn.init.zeros_(layer.map.bias)  # type: ignore[union-attr,arg-type]
    x = rounded(torch.randn(1, 6, 8) if name == "khatri-rao" else torch.randn(6, 8))
    found = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(1)
        leaf = x.clone().requires_grad_()
        with products_in(precision, CPU):
            out = layer(leaf)
        out.float().sum().backward()
        assert leaf.grad is not None
        found.append((out.detach(), leaf.grad))
    (exact, exact_gradient), (coarse, coarse_gradient) = found
    assert torch.equal(exact, coarse)
    assert torch.allclose(exact_gradient, coarse_gradient, rtol=2e-2, atol=2e-2)


def test_a_run_in_bf16_has_a_record_of_its_own() -> None:
    exact = Run("precision", "ml-100k", "DNN", "DNN", {}, PROTOCOL.replace(max_epochs=1), 1, rows=500)
    coarse = Run("precision", "ml-100k", "DNN", "DNN", {}, exact.protocol.replace(precision="bf16"), 1, rows=500)
    assert exact.path != coarse.path
    assert "precision" not in exact.identity["protocol"], "paths of records in fp32 stay what they were"


def test_a_record_says_its_precision(tiny: CTRDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctrlib.lab.runner.dataset", lambda *_: tiny)
    for precision in ("fp32", "bf16"):
        run = Run("p", "tiny", "DNN", "DNN", {}, PROTOCOL.replace(max_epochs=1, precision=precision), 1)
        record = make_record(run)
        assert record["status"] == "completed"
        assert record["environment"]["precision"] == record["protocol"]["precision"] == precision


def test_the_scores_of_a_run_are_in_its_precision(tiny: CTRDataset) -> None:
    model = build_model("DNN", tiny.schema, seed=1)
    result = fit(model, tiny, PROTOCOL.replace(max_epochs=3, precision="bf16"), seed=1)
    assert result.valid == evaluate(model, tiny.valid, "bf16") != evaluate(model, tiny.valid)
    assert result.valid.auc == result.epochs[result.best_epoch - 1].valid_auc


def test_the_second_run_of_a_pair_differs_in_its_precision_alone() -> None:
    for name in COMPARED:
        exact = exact_run("frappe_x1-rebuilt", name, 3)
        coarse = coarse_run(exact)
        assert coarse.protocol == exact.protocol.replace(precision="bf16")
        assert (coarse.model, coarse.settings, coarse.seed) == (exact.model, exact.settings, 3)
        assert exact.label == name and exact.path != coarse.path
    assert len(precision_grid("frappe_x1-rebuilt", [1, 2])) == 4 * len(COMPARED)
    with pytest.raises(SettingError, match="DCNv2"):
        exact_run("frappe_x1-rebuilt", "DCNv", 1)


def test_equal_is_what_stays_within_the_margin() -> None:
    def runs(label: str, values: list[float]) -> list[dict[str, object]]:
        return [{"label": label, "seed": k, "test_auc": v, "status": "completed"} for k, v in enumerate(values)]

    exact = [0.98, 0.981, 0.982, 0.983]
    near, far = [v + d for v, d in zip(exact, (1e-4, -1e-4, 0, 1e-4), strict=True)], [v - 6e-4 for v in exact]
    rows = runs("DNN", exact) + runs("DNN.bf16", near) + runs("DCNv2", exact) + runs("DCNv2.bf16", far)
    found = equality(pd.DataFrame(rows))
    assert found["equal"].to_dict() == {"DNN": True, "DCNv2": False}
    assert found.loc["DCNv2", "difference"] == pytest.approx(-6e-4)


def test_the_first_runs_stand_apart(tiny: CTRDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their table has a row for each seed, with what was not run left open; the comparison passes over them."""
    assert trials("tiny").empty and both_precisions("frappe_x1-rebuilt").empty
    monkeypatch.setattr("ctrlib.lab.runner.dataset", lambda *_: tiny)
    for ending, precision, seeds in (("", "fp32", (1, 2)), (".bf16", "bf16", (1,))):
        for seed in seeds:
            protocol = PROTOCOL.replace(max_epochs=1, precision=precision)
            run = Run("speed", "frappe_x1-rebuilt", f"DNN.no-dropout{ending}", "DNN", {}, protocol, seed)
            write_record(records_dir() / run.path, make_record(run))
    table = trials("frappe_x1-rebuilt")
    assert table["seed"].tolist() == [1, 2] and set(table["system"]) == {"DNN"}
    assert table["AUC % in bf16"].isna().tolist() == [False, True]
    assert both_precisions("frappe_x1-rebuilt").empty


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(SettingError, match="bf16"):
        Protocol(precision="bf61")
