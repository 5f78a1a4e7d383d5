"""QNN-alpha's layers in other models: logged totals, and forms against compositions of tested parts."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from ctrlib.data import CTRDataset, Field, Schema
from ctrlib.errors import SettingError
from ctrlib.lab.tables import papers_table
from ctrlib.layers import pair_sum
from ctrlib.models import build_model
from ctrlib.models.qnn_hybrids import DCNv2QNN, DeepFMQNN
from ctrlib.train import Protocol, fit

FIELDS = {"Criteo": 39, "Frappe": 10, "KKBox": 13, "ML-1M": 7, "Tenrec": 15, "iPinYou": 16}
LOGS = papers_table("qnn_alpha_runs")
LOGS["model"] = LOGS["model"].str.removesuffix(" v3")  # a class that is not published, of the same size


@pytest.mark.parametrize("log", list(LOGS.itertuples()), ids=lambda log: str(log.log))
def test_parameters_equal_the_logged_totals(log: Any) -> None:
    """Given the logged table, every published network of the released class has as many parameters as ours."""
    width, fields = int(log.embedding_dim), FIELDS[log.dataset]
    rows = int(log.embedding_parameters) // width
    schema = Schema(tuple(Field(f"f{k}") for k in range(fields)), (rows - 2 * (fields - 1), *[2] * (fields - 1)))
    settings: dict[str, Any] = {name: int(getattr(log, name)) for name in ("layers", "rows", "heads")}
    if log.model == "DCNv2-QNN":
        settings["cross_layers"] = int(log.cross_layers)
    if log.model == "xDeepFM-QNN":
        settings["cin_units"] = [int(part) for part in log.cin_units.strip("[]").split(",")]
    with torch.device("meta"):
        model = build_model(log.model, schema, embedding_dim=width, batch_norm=bool(log.batch_norm), **settings)
    assert model.num_parameters == log.parameters


def test_every_log_is_read() -> None:
    assert isinstance(LOGS, pd.DataFrame) and len(LOGS) >= 15 and set(LOGS["model"]) >= {"DCNv2-QNN", "DeepFM-QNN"}


def small(name: str, tiny: CTRDataset, **settings: Any) -> Any:
    return build_model(name, tiny.schema, seed=1, embedding_dim=4, rows=2, dropout=0.0, **settings).double().eval()


@pytest.mark.parametrize(("form", "share"), [("written", 1.0), ("released", 0.5)])
def test_deepfm_forms_differ_by_one_half(form: str, share: float, tiny: CTRDataset) -> None:
    model, ids = small("DeepFM-QNN", tiny, form=form), tiny.test.ids[:20]
    assert isinstance(model, DeepFMQNN) and model.first_order is not None
    torch.nn.init.normal_(model.first_order.embedding.weight)
    torch.nn.init.normal_(model.embedding.weight)
    e = model.embedding(ids)
    trunk = model.head(model.trunk(e.flatten(1)))[0, :, 0]
    expected = trunk + share * (pair_sum(e) + model.first_order(ids))
    assert torch.allclose(model(ids), expected, rtol=0, atol=1e-12)


def test_written_cross_network_is_the_plain_one(tiny: CTRDataset) -> None:
    model, ids = small("DCNv2-QNN", tiny, form="written", cross_layers=2), tiny.test.ids[:20]
    assert isinstance(model, DCNv2QNN)
    torch.nn.init.normal_(model.embedding.weight)
    x0 = x = model.embedding(ids).flatten(1)
    for layer in model.cross.layers:  # type: ignore[union-attr]
        x = x0 * layer(x) + x
    expected = model.head(torch.cat([model.trunk(x0)[0], x], dim=1))[:, 0]
    assert torch.allclose(model(ids), expected, rtol=0, atol=1e-12)


def test_released_cross_layers_have_norm_and_relu(tiny: CTRDataset) -> None:
    model, ids = small("DCNv2-QNN", tiny, form="released", cross_layers=1), tiny.test.ids[:20]
    torch.nn.init.normal_(model.embedding.weight)
    x0 = model.embedding(ids).flatten(1)
    crossed = x0 + x0 * torch.relu(model.cross.norms[0](model.cross.layers[0](x0)))
    assert torch.allclose(model.cross(x0), crossed, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["DeepFM-QNN", "xDeepFM-QNN", "DCNv2-QNN"])
@pytest.mark.parametrize("form", ["written", "released"])
def test_hybrids_train(name: str, form: str, tiny: CTRDataset) -> None:
    model = build_model(name, tiny.schema, seed=1, embedding_dim=4, rows=2, form=form)
    result = fit(model, tiny, Protocol(batch_size=100, max_epochs=1, embedding_dim=4), seed=1)
    assert 0.0 < result.test.auc < 1.0


def test_unknown_forms_are_refused(tiny: CTRDataset) -> None:
    with pytest.raises(SettingError, match="written"):
        build_model("DeepFM-QNN", tiny.schema, form="writen")
