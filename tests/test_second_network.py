"""The lifted T19 and the ensemble, against slow forms in float64 and their own laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ctrlib.data import Field, Schema
from ctrlib.errors import SettingError
from ctrlib.losses import self_ensemble_loss
from ctrlib.models import build_model
from ctrlib.models.second_network import Ensemble

SCHEMA = Schema((Field("a"), Field("b"), Field("c")), (7, 9, 5))
WIDTH = 12  # 3 fields, 4 wide
SMALL = {"embedding_dim": 4, "rows": 3, "layers": 2}


def batch(rows: int = 17) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.stack([torch.randint(n, (rows,), generator=generator) for n in SCHEMA.vocab_sizes], dim=1)
    return ids + torch.tensor(SCHEMA.offsets), torch.randint(2, (rows,), generator=generator).double()


def noisy(name: str, **settings: object) -> torch.nn.Module:
    """A model in float64 whose embeddings are large enough to matter."""
    model = build_model(name, SCHEMA, seed=1, **SMALL | settings).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())))
    return model


def numpy(value: Tensor) -> np.ndarray:
    return value.detach().numpy()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_lifted_gate_equals_its_slow_form(batch_norm: bool) -> None:
    model, (ids, _) = noisy("T19-lifted", batch_norm=batch_norm).eval(), batch()
    x = numpy(model.embedding(ids).flatten(1))
    for layer in model.layers:
        h = x @ numpy(layer.up.weight).T + numpy(layer.up.bias)
        if batch_norm:
            spread = np.sqrt(numpy(layer.norm.running_var) + layer.norm.eps)
            h = (h - numpy(layer.norm.running_mean)) / spread
            h = h * numpy(layer.norm.weight) + numpy(layer.norm.bias)
        gate = np.maximum(np.maximum(h, 0) @ numpy(layer.down.weight).T + numpy(layer.down.bias), 0)
        x = x + x * gate
    slow = x @ numpy(model.head.weight)[0] + numpy(model.head.bias)
    assert np.abs(numpy(model(ids)) - slow).max() < 1e-10


@pytest.mark.parametrize("batch_norm", [False, True])
def test_parameters_of_the_lifted_gate(batch_norm: bool) -> None:
    model = build_model("T19-lifted", SCHEMA, **SMALL, batch_norm=batch_norm)
    d, w = WIDTH, 3 * WIDTH // 2
    layer = 2 * d * w + w + d + 2 * w * batch_norm
    assert model.num_parameters == SCHEMA.table_rows * 4 + 2 * layer + d + 1


def test_an_ensemble_predicts_the_mean_probability() -> None:
    model, (ids, _) = noisy("QNN-alpha-ensemble", passes=3).eval(), batch()
    assert isinstance(model, Ensemble)
    mean = torch.sigmoid(model.network_logits(ids)).mean(dim=0)
    assert torch.allclose(torch.sigmoid(model(ids)), mean, rtol=0, atol=1e-12)


def test_an_ensemble_of_one_is_qnn_alpha() -> None:
    alone, (ids, _) = noisy("QNN-alpha", loss="bce", passes=1).eval(), batch()
    one = build_model("QNN-alpha-ensemble", SCHEMA, **SMALL, passes=1).double().eval()
    names = {key: key.replace("trunk.", "trunks.0.").replace("head.", "heads.0.") for key in alone.state_dict()}
    one.load_state_dict({names[key]: value for key, value in alone.state_dict().items()})
    assert torch.allclose(one(ids), alone(ids), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
def test_networks_start_apart_and_share_the_table_if_asked(shared: bool) -> None:
    single = build_model("QNN-alpha", SCHEMA, **SMALL).num_parameters
    model = build_model("QNN-alpha-ensemble", SCHEMA, seed=1, **SMALL, shared_embedding=shared)
    assert isinstance(model, Ensemble)
    table = SCHEMA.table_rows * 4
    assert model.num_parameters == 2 * single - (table if shared else 0)
    first, second = (trunk.layers[0].map.weight for trunk in model.trunks)  # type: ignore[index, union-attr]
    assert not torch.equal(first, second)
    assert sum(p.numel() for p in model.embedding_parameters()) == (table if shared else 2 * table)
    if not shared:
        assert not torch.equal(model.embedding.weight, model.other_embeddings[0].weight)


def test_networks_of_an_ensemble_learn_for_themselves_unless_the_loss_compares_them() -> None:
    ids, labels = batch()
    for loss, coupled in (("bce", False), ("self-ensemble", True)):
        gradients = []
        for shift in (0.0, 1.0):
            model = noisy("QNN-alpha-ensemble", loss=loss, dropout=0.0, batch_norm=False)
            with torch.no_grad():
                model.heads[1].bias += shift
            model.training_loss(ids, labels).backward()
            gradients.append(model.heads[0].weight.grad.clone())
        assert torch.equal(*gradients) != coupled, loss
    logits = model.network_logits(ids)
    assert torch.equal(model.training_loss(ids, labels), self_ensemble_loss(logits, labels))


def test_each_network_has_the_gradient_that_it_has_alone() -> None:
    """So the table's penalty weighs as much as in a network that trains alone."""
    ids, labels = batch()
    ensemble = noisy("QNN-alpha-ensemble", dropout=0.0)
    ensemble.training_loss(ids, labels).backward()
    alone = build_model("QNN-alpha", SCHEMA, **SMALL, loss="bce", passes=1, dropout=0.0).double()
    state = ensemble.state_dict()
    values = {key.replace("trunks.0.", "trunk.").replace("heads.0.", "head."): v for key, v in state.items()}
    alone.load_state_dict({key: values[key] for key in alone.state_dict()})
    alone.training_loss(ids, labels).backward()
    assert torch.allclose(ensemble.embedding.weight.grad, alone.embedding.weight.grad, rtol=1e-12, atol=1e-14)
    assert torch.allclose(ensemble.heads[0].weight.grad, alone.head.weight.grad, rtol=1e-12, atol=1e-14)


def test_settings_are_checked() -> None:
    with pytest.raises(SettingError, match="states"):
        build_model("QNN-alpha-ensemble", SCHEMA, loss="cosine")
    with pytest.raises(SettingError, match="is odd"):
        build_model("T19-lifted", SCHEMA, embedding_dim=1, rows=3)
    with pytest.raises(SettingError, match="at least 1"):
        build_model("T19-lifted", SCHEMA, rows=0)
