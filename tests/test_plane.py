"""Networks in the plane: seeds share nothing, layers are those of the click models, boundaries turn as they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ctrlib.errors import SettingError
from ctrlib.neurons import FORMATS, NeuronLayer
from ctrlib.plane import NETWORKS, PlaneLayer, points, train_plane, train_planes, turning


@pytest.mark.parametrize("name", FORMATS)
def test_each_seed_s_layer_is_that_of_the_click_models(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    batched = PlaneLayer(FORMATS[name], 3, 6).double()
    x, x0 = (torch.randn(3, 7, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    for value in batched.parameters():
        torch.nn.init.normal_(value, generator=generator)
    together = batched(x, x0)
    for seed in range(3):
        single = NeuronLayer(FORMATS[name], 6).double()
        with torch.no_grad():
            for key, value in single.named_parameters():
                given = batched.get_parameter(key)[seed]
                if key == "B.weight":
                    given = given.permute(1, 0, 2)  # (left, output, right) -> (output, left, right)
                value.copy_(given.T if key.endswith(".weight") and given.dim() == 2 else given.reshape(value.shape))
        assert torch.allclose(together[seed], single(x[seed], x0[seed]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["MLP", "T19", "T2", "DCNv2"])
@pytest.mark.parametrize("noisy", [{}, {"dropout": 0.2}, {"dropout": 0.2, "loss": "self-ensemble", "passes": 2}])
def test_a_seed_ends_where_it_ends_alone(name: str, noisy: dict[str, Any]) -> None:
    together = train_plane(name, "moons", [3, 5], epochs=15, **noisy)
    alone = train_plane(name, "moons", [5], epochs=15, **noisy)
    plane = torch.randn(9, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    apart = together.network.only(1).logits(plane) - alone.network.only(0).logits(plane)
    assert apart.abs().max() < 1e-4  # products of another shape round differently
    assert together.accuracy[1] == pytest.approx(alone.accuracy[0], abs=0.01)


def test_networks_side_by_side_are_those_one_by_one() -> None:
    tasks = [{"name": n, "shape": "circles", "numbers": [1, 2], "epochs": 5, "dropout": 0.1} for n in ("T9", "MLP")]
    for task, found in zip(tasks, train_planes(tasks), strict=True):
        alone = train_plane(**task)  # type: ignore[arg-type]
        assert np.array_equal(found.accuracy, alone.accuracy) and found.name == task["name"]
        plane = torch.zeros(1, 2, dtype=torch.float64)
        assert torch.allclose(found.network.only(1).logits(plane), alone.network.only(1).logits(plane), atol=1e-6)


def test_a_linear_network_does_not_bend_and_a_quadratic_one_does() -> None:
    linear, quadratic = (train_plane(name, "circles", [1, 2], epochs=100) for name in ("MLP", "T9"))
    assert linear.accuracy.max() < 0.65 < 0.9 < quadratic.accuracy.min()
    assert turning(linear.network.only(0).logits).per_length < 1e-6


def test_frames_are_kept_and_the_last_is_the_end() -> None:
    found = train_plane("T9", "circles", [1], epochs=6, frames=[0, 6], frame_size=5)
    assert list(found.frames) == [0, 6] and found.frames[6].shape == (5, 5)
    corner = found.network.only(0).logits(torch.tensor([[-2.2, -2.2]], dtype=torch.float64)).detach()
    assert found.frames[6][0, 0] == pytest.approx(float(corner), rel=1e-6)


def test_self_ensemble_loss_needs_dropout_to_differ() -> None:
    with_dropout, without = (
        train_plane("T19", "moons", [1], epochs=30, dropout=rate, loss="self-ensemble", passes=2) for rate in (0.2, 0.0)
    )
    plain = train_plane("T19", "moons", [1], epochs=30)
    plane = torch.randn(9, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits = [found.network.only(0).logits(plane) for found in (with_dropout, without, plain)]
    assert torch.allclose(logits[1], logits[2], atol=2e-3)
    assert not torch.allclose(logits[0], logits[2], atol=2e-2)


def circle(x: Tensor) -> Tensor:
    return x.square().sum(dim=1) - 1.0


def square(x: Tensor) -> Tensor:
    return x.abs().max(dim=1).values - 1.0


def test_turning_of_known_lines() -> None:
    found = turning(circle)
    assert found.length == pytest.approx(2 * np.pi, rel=0.02)
    assert found.per_length == pytest.approx(1.0, rel=0.01)
    assert found.concentration == pytest.approx(0.1, abs=0.005)
    for angle in (0.0, 0.3):
        rotation = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = turning(lambda x, r=rotation: square(x @ r))
        assert corners.length == pytest.approx(8.0, rel=0.02)
        assert corners.per_length * corners.length == pytest.approx(2 * np.pi, rel=0.01), "four right angles"
        assert corners.concentration == pytest.approx(1.0, abs=1e-6)


def test_no_boundary_has_no_figures() -> None:
    assert np.isnan(turning(lambda x: 5.0 + 0.0 * x.sum(dim=1)).concentration)


def test_points_are_reproducible_and_standardised() -> None:
    for shape in ("moons", "circles"):
        x, y = points(shape, 3)
        again, _ = points(shape, 3)
        assert torch.equal(x, again) and x.shape == (400, 2)
        assert set(y.tolist()) == {0.0, 1.0}
        assert x.std(dim=0).sub(1.0).abs().max() < 0.15 and x.mean(dim=0).abs().max() < 0.1


def test_unknown_names_and_settings() -> None:
    with pytest.raises(SettingError, match="T9"):
        train_plane("T9x", "moons", [1])
    with pytest.raises(SettingError, match="moons"):
        train_plane("T9", "moon", [1])
    with pytest.raises(SettingError, match="width"):
        train_plane("T9", "moons", [1], widht=3)
    with pytest.raises(SettingError, match="compares passes"):
        train_plane("T9", "moons", [1], loss="self-ensemble")
    with pytest.raises(SettingError, match="tri-bce"):
        train_plane("T9", "moons", [1], loss="tri-bce", passes=2)
    with pytest.raises(SettingError, match="post_activation"):
        train_plane("DCNv2", "moons", [1], post_activation="relu")
    with pytest.raises(SettingError, match="No seed"):
        train_plane("T9", "moons", [])
    with pytest.raises(SettingError, match="ends after 3"):
        train_plane("T9", "moons", [1], epochs=3, frames=[7])
    assert "DCNv2" in NETWORKS
