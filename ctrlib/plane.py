r"""Networks in the plane, to see decision boundaries (QNN-alpha paper, 2.1.2 and Figure 2).

S seeds, N points, w width. The two coordinates of a point are lifted to w by an affine map; L layers of one neuron
format follow, each with its activation (if any) and dropout, and one affine map gives the logit. The paper gives width
20, 2 layers, Adam at 1e-2, 500 epochs on the moons and 100 on the circles, and no code. The lift, the number of points,
their noise, full batches and the initial values (those of the click models) are ours.

All seeds train at once: every weight has a leading axis of seeds, so a step is a few batched products. The seeds share
nothing, and a seed's result does not depend on which others are trained beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import make_circles, make_moons
from torch import Tensor, nn

from ctrlib import seeds
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import Dropout, activation
from ctrlib.layers.dropout import kept, kept_scale, random_words
from ctrlib.losses import LOSSES
from ctrlib.neurons import FORMATS, NeuronFormat
from ctrlib.paths import jobs_at_once

Array = NDArray[np.float64]
Logits = Callable[[Tensor], Tensor]
EPOCHS = {"moons": 500, "circles": 100}  # as in the paper
NOISE = {"moons": 0.25, "circles": 0.15}
BOX = 2.2  # the plane is looked at from -BOX to BOX in both coordinates
NETWORKS = (*FORMATS, "DCNv2")
PLANE_LOSSES = [name for name in LOSSES if name != "tri-bce"]
"""Losses that are a mean over points, so that many seeds can be summed up in one; Tri-BCE weighs by a batch's mean."""


@dataclass(frozen=True)
class PlaneSettings:
    """width: w. layers: L. post_activation: after each layer, "none" or "relu". loss, passes: as for click models."""

    width: int = 20
    layers: int = 2
    post_activation: str = "none"
    dropout: float = 0.0
    loss: str = "bce"
    passes: int = 1
    learning_rate: float = 1e-2

    def __post_init__(self) -> None:
        if self.loss not in PLANE_LOSSES:
            raise unknown("loss of networks in the plane", self.loss, PLANE_LOSSES)
        if self.width < 2 or self.layers < 1 or self.passes < 1:
            raise SettingError("width must be at least 2, layers and passes at least 1.")
        if self.loss != "bce" and self.passes < 2:
            raise SettingError(f"Loss '{self.loss}' compares passes: set passes to 2 or more.")


def points(shape: str, seed: int, count: int = 400, noise: float | None = None) -> tuple[Tensor, Tensor]:
    """Return coordinates (N, 2), scaled to about unit variance, and labels (N,) of the moons or the circles.

    noise: standard deviation of the points around their curve, before the scaling; by default `NOISE`.
    """
    if shape not in EPOCHS:
        raise unknown("shape", shape, EPOCHS)
    spread = NOISE[shape] if noise is None else noise
    if shape == "moons":
        x, y = make_moons(count, noise=spread, random_state=seed)
        x = (x - [0.5, 0.25]) / [0.9, 0.55]
    else:
        x, y = make_circles(count, noise=spread, factor=0.5, random_state=seed)
        x = x / 0.57
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


class Maps(nn.Module):
    """One affine map for each seed: x (S, N, in) -> (S, N, out)."""

    def __init__(self, seeds: int, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(seeds, fan_in, fan_out))
        self.bias = nn.Parameter(torch.zeros(seeds, 1, fan_out))

    def reset(self, generators: Sequence[torch.Generator]) -> None:
        """Give every seed's map Xavier-normal weights from its own generator."""
        fan_in, fan_out = self.weight.shape[1:]
        for weight, generator in zip(self.weight, generators, strict=True):
            nn.init.normal_(weight, std=math.sqrt(2.0 / (fan_in + fan_out)), generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class SeedDropout(Dropout):
    """Dropout of x (S, N, w) in which every seed's masks come from a stream of its own."""

    def __init__(self, rate: float, numbers: Sequence[int]) -> None:
        super().__init__(rate)
        self.streams = [seeds.stream(number, "plane-dropout") for number in numbers]

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.dropped_levels == 0:
            return x
        words = torch.stack([random_words(x.shape[1:], x.device, stream) for stream in self.streams])
        return x * kept(words, self.dropped_levels, x.dtype) * kept_scale(self.dropped_levels)


class Forms(nn.Module):
    """One bilinear form for each seed: x (S, N, w) -> (S, N, w)."""

    def __init__(self, seeds: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(seeds, width, width, width))  # (S, left, output, right)
        self.bias = nn.Parameter(torch.zeros(seeds, 1, width))

    def reset(self, generators: Sequence[torch.Generator]) -> None:
        """Give every seed's tensor and bias uniform values within 1/sqrt(w)."""
        bound = 1.0 / math.sqrt(self.weight.shape[1])
        for weight, bias, generator in zip(self.weight, self.bias, generators, strict=True):
            nn.init.uniform_(weight, -bound, bound, generator=generator)
            nn.init.uniform_(bias, -bound, bound, generator=generator)

    def forward(self, x: Tensor, same: Tensor) -> Tensor:
        halves = torch.bmm(x, self.weight.flatten(2)).unflatten(2, self.weight.shape[2:])
        return (halves * same[:, :, None]).sum(-1) + self.bias  # type: ignore[no-any-return]


class PlaneLayer(nn.Module):
    """The layer of one neuron format for S seeds; x and x0 (S, N, w) -> (S, N, w)."""

    def __init__(self, form: NeuronFormat, seeds: int, width: int) -> None:
        super().__init__()
        form.check_width(width)
        self.form = form
        for name, (fan_in, fan_out) in form.maps.items():
            self.add_module(name, Maps(seeds, int(fan_in * width), int(fan_out * width)))
        if form.bilinear:
            self.B = Forms(seeds, width)
        if form.scale_vector:
            self.alpha = nn.Parameter(torch.ones(seeds, 1, width))

    def forward(self, x: Tensor, x0: Tensor) -> Tensor:
        return self.form.function(x, x0, **{name: getattr(self, name) for name in self.form.arguments})


class PlaneNetwork(nn.Module):
    """S networks of one kind; points (S, N, 2) -> logits (S, N). "DCNv2" puts an MLP beside cross layers."""

    def __init__(self, name: str, numbers: Sequence[int], settings: PlaneSettings) -> None:
        super().__init__()
        if name not in NETWORKS:
            raise unknown("network", name, NETWORKS)
        if not numbers:
            raise SettingError("No seed is given. Give at least one, for example [1].")
        if name == "DCNv2" and settings.post_activation != "none":
            raise SettingError("DCNv2 has a ReLU in its MLP and none in its cross layers; leave post_activation out.")
        self.name, self.settings = name, settings
        count, width = len(numbers), settings.width
        self.lift = Maps(count, 2, width)
        parts = ("CrossNetV2", "MLP") if name == "DCNv2" else (name,)
        self.stacks = nn.ModuleList(
            nn.ModuleList(PlaneLayer(FORMATS[part], count, width) for _ in range(settings.layers)) for part in parts
        )
        own = ["none", "relu"] if name == "DCNv2" else [settings.post_activation]
        self.activations = nn.ModuleList(activation(name) for name in own)
        self.dropout = SeedDropout(settings.dropout, numbers)
        self.head = Maps(count, width * len(parts), 1)
        generators = [seeds.stream(number, "plane-weights") for number in numbers]
        for module in self.modules():
            if isinstance(module, (Maps, Forms)):
                module.reset(generators)

    def forward(self, x_SN2: Tensor) -> Tensor:
        x0 = self.lift(x_SN2)
        ends = []
        for stack, nonlinearity in zip(self.stacks, self.activations, strict=True):
            x = x0
            for layer in stack:  # type: ignore[attr-defined]
                x = self.dropout(nonlinearity(layer(x, x0)))
            ends.append(x)
        return torch.squeeze(self.head(torch.cat(ends, dim=-1)), -1)  # type: ignore[no-any-return]

    def only(self, number: int) -> PlaneNetwork:
        """Return a copy in float64 that holds one seed alone, ready to be evaluated."""
        alone = PlaneNetwork(self.name, [0], self.settings).double().eval()
        alone.load_state_dict({key: value[number : number + 1] for key, value in self.state_dict().items()})
        return alone

    def logits(self, x_N2: Tensor) -> Tensor:
        """Return the logits (N,) of a network that holds one seed."""
        return self(x_N2[None])[0]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class PlaneResult:
    """name, shape: as asked for. network: of all seeds, at the end of training. accuracy: (S,) on fresh points.

    frames: epoch -> logits (G, G) of the first seed on the grid, one row for each second coordinate.
    """

    name: str
    shape: str
    network: PlaneNetwork
    accuracy: Array
    frames: dict[int, Array]


def grid(size: int) -> Tensor:
    """Return the points of a square grid, (size * size, 2), the first coordinate fastest."""
    axis = torch.linspace(-BOX, BOX, size)
    second, first = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([first.flatten(), second.flatten()], dim=1)


def train_plane(
    name: str,
    shape: str,
    numbers: Sequence[int],
    *,
    epochs: int | None = None,
    frames: Sequence[int] = (),
    frame_size: int = 41,
    test_points: int = 4000,
    noise: float | None = None,
    **settings: Any,
) -> PlaneResult:
    """Train one network for each seed in `numbers` on its own draw of the shape and score it on fresh points.

    frames: epochs after which the first seed's logits on the grid are kept, 0 for the start. Raises `SettingError`
    for an unknown network, shape or setting, and for a frame after the last epoch.
    """
    known = PlaneSettings.__dataclass_fields__
    for setting in settings:
        if setting not in known:
            raise unknown("setting", setting, known)
    chosen = PlaneSettings(**settings)
    network = PlaneNetwork(name, numbers, chosen)
    drawn = [points(shape, seed, noise=noise) for seed in numbers]
    x_SN2, y_SN = (torch.stack([pair[k] for pair in drawn]) for k in (0, 1))
    optimiser = torch.optim.Adam(network.parameters(), lr=chosen.learning_rate)
    plane, kept = grid(frame_size), {}
    last = EPOCHS[shape] if epochs is None else epochs
    if late := [epoch for epoch in frames if epoch > last]:
        raise SettingError(f"Frames after epochs {late} are asked for, but training ends after {last}.")
    for epoch in range(last + 1):
        if epoch in frames:
            kept[epoch] = _heights(network.only(0).logits, plane)
        if epoch < last:
            optimiser.zero_grad()
            logits = torch.stack([network(x_SN2).flatten() for _ in range(chosen.passes)])
            # The loss is a mean over all points of all seeds; times S each seed has the gradient of its own mean.
            (len(numbers) * LOSSES[chosen.loss](logits, y_SN.flatten())).backward()
            optimiser.step()
    network.eval()
    fresh = [points(shape, 1_000_000 + seed, test_points, noise) for seed in numbers]
    with torch.no_grad():
        right = (network(torch.stack([x for x, _ in fresh])) > 0) == torch.stack([y for _, y in fresh]).bool()
    return PlaneResult(name, shape, network, right.double().mean(dim=1).numpy(), kept)


def train_planes(tasks: Sequence[Mapping[str, Any]]) -> list[PlaneResult]:
    """Train several networks side by side, one thread each; a task holds the arguments of `train_plane` by name."""
    from joblib import Parallel, delayed

    jobs = max(1, min(len(tasks), jobs_at_once()))
    return list(Parallel(n_jobs=jobs)(delayed(_train_on_one_thread)(task) for task in tasks))


def _train_on_one_thread(task: Mapping[str, Any]) -> PlaneResult:
    torch.set_num_threads(1)  # the products are too small to share
    result = train_plane(**task)
    result.network.dropout.streams = []  # random streams cannot travel between processes
    return result


def _heights(logits: Logits, plane: Tensor) -> Array:
    """Return logits on a square grid of points, one row for each value of the second coordinate."""
    size = math.isqrt(len(plane))
    with torch.no_grad():
        return np.asarray(logits(plane.double()).reshape(size, size).numpy())


@dataclass(frozen=True)
class Turning:
    """How a decision boundary turns inside the box.

    length: of the boundary, in units of the plane. per_length: angle that its normal turns by for each unit, in
    radians. concentration: share of all turning that happens on the tenth of the length that turns most: 0.1 for a
    circle, 1 for a polygon.
    """

    length: float
    per_length: float
    concentration: float


def turning(logits: Logits, *, step: float = 0.02, size: int = 161) -> Turning:
    """Measure the zero line of `logits`, points (N, 2) -> (N,) in float64. Without one in the box: NaN.

    The line is traced on a grid, walked in equal steps, and each stop is moved onto the line with Newton's method;
    the angle between the gradients at neighbouring stops is how far the boundary turns there.
    """
    from contourpy import contour_generator

    axis = np.linspace(-BOX, BOX, size)
    heights = _heights(logits, grid(size))
    angles, lengths = [], []
    for line in contour_generator(axis, axis, heights).lines(0.0):
        stops = _equal_steps(np.asarray(line, dtype=np.float64), step)
        if len(stops) < 3:
            continue
        x, normals = _onto_the_line(logits, torch.from_numpy(stops))
        here, next_ = normals[:-1], normals[1:]
        sine = here[:, 0] * next_[:, 1] - here[:, 1] * next_[:, 0]
        angles.append(torch.atan2(sine, (here * next_).sum(dim=1)).abs().numpy())
        lengths.append((x[1:] - x[:-1]).norm(dim=1).numpy())
    if not angles:
        return Turning(0.0, math.nan, math.nan)
    angle, length = np.concatenate(angles), np.concatenate(lengths)
    sharpest_first = np.argsort(-angle / np.maximum(length, 1e-9))
    covered = np.cumsum(length[sharpest_first]) / length.sum()
    gathered = np.cumsum(angle[sharpest_first])
    share = float(np.interp(0.1, np.insert(covered, 0, 0.0), np.insert(gathered, 0, 0.0)))
    total = float(angle.sum())
    bends = total > 1e-6  # a straight line has rounding errors alone, and no sharpest tenth
    return Turning(float(length.sum()), total / float(length.sum()), share / total if bends else math.nan)


def _equal_steps(line: Array, step: float) -> Array:
    """Return stops along a polyline (P, 2), both ends among them, at most `step` apart."""
    walked = np.insert(np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1)), 0, 0.0)
    steps = max(2, math.ceil(walked[-1] / step))
    at = np.linspace(0.0, walked[-1], steps + 1)  # both ends: a closed line comes back to its first stop
    return np.stack([np.interp(at, walked, line[:, k]) for k in (0, 1)], axis=1)


def _onto_the_line(logits: Logits, x: Tensor, iterations: int = 3) -> tuple[Tensor, Tensor]:
    """Return the stops (P, 2) moved onto the zero line, and the unit gradients (P, 2) there."""
    for _ in range(iterations):
        value, gradient = _value_and_gradient(logits, x)
        move = value[:, None] * gradient / gradient.square().sum(dim=1, keepdim=True).clamp_min(1e-12)
        x = x - move.clamp(-0.05, 0.05)
    _, gradient = _value_and_gradient(logits, x)
    return x, gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-12)


def _value_and_gradient(logits: Logits, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    value = logits(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient
