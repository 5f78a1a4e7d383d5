"""The training loop: one gather a batch from tensors on the device, exact AUC after every epoch."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ctrlib import seeds
from ctrlib.data import CTRDataset, Split, batches_of
from ctrlib.errors import CtrlibError, DataError, DeviceError, SettingError
from ctrlib.layers import Dropout
from ctrlib.layers.precision import products_in, widened
from ctrlib.models import CTRModel
from ctrlib.train import checkpoint
from ctrlib.train.allocator import keep_freed_memory
from ctrlib.train.capture import CapturedStep, Step
from ctrlib.train.metrics import Scores, check_both_classes, device_auc, device_logloss
from ctrlib.train.optimiser import ClippedAdam
from ctrlib.train.protocol import Protocol

EVALUATION_ROWS = 16384  # rows of one batch without gradients
STEPS_A_TURN = 50  # steps that are handed over before another run may have its turn

T = TypeVar("T")


class TrainingError(CtrlibError):
    """Training cannot go on, for example because the loss is no longer a number."""


@dataclass
class Epoch:
    """One epoch: learning_rate used, mean training loss in nats, validation scores, seconds."""

    epoch: int
    train_loss: float
    learning_rate: float
    valid_auc: float
    valid_logloss: float
    train_seconds: float
    evaluate_seconds: float


@dataclass
class FitResult:
    """best_epoch: chosen by validation AUC, counted from 1. valid, test: scores of that epoch's weights.

    train: their scores on as many training rows as there are validation rows, evenly spaced; None where these rows
    hold one class.
    """

    best_epoch: int
    epochs: list[Epoch]
    train: Scores | None
    valid: Scores
    test: Scores
    seconds: dict[str, float]
    samples_per_second: float
    parameters: int


@dataclass
class _Progress:
    """What early stopping and the schedule remember. It is part of a checkpoint."""

    learning_rate: float
    best_auc: float = -math.inf
    best_epoch: int = 0
    epochs_without_gain: int = 0
    epochs: list[Epoch] = field(default_factory=list)

    def update(self, epoch: Epoch, protocol: Protocol) -> bool:
        """Take in an epoch; return whether it is the best so far."""
        self.epochs.append(epoch)
        if epoch.valid_auc > self.best_auc + protocol.min_delta:
            self.best_auc, self.best_epoch, self.epochs_without_gain = epoch.valid_auc, epoch.epoch, 0
            return True
        self.epochs_without_gain += 1
        lowered = self.learning_rate * protocol.learning_rate_factor
        self.learning_rate = max(lowered, protocol.min_learning_rate)
        return False

    def finished(self, protocol: Protocol) -> bool:
        """Whether patience has run out or the last epoch allowed is done."""
        return self.epochs_without_gain >= protocol.patience or len(self.epochs) >= protocol.max_epochs

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> _Progress:
        return cls(**(values | {"epochs": [Epoch(**epoch) for epoch in values["epochs"]]}))


def fit(
    model: CTRModel,
    data: CTRDataset,
    protocol: Protocol,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    checkpoint_path: Path | None = None,
    identity: dict[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> FitResult:
    """Train `model` in place and return its scores; afterwards it holds the best epoch's weights.

    The seed fixes batch order and dropout masks. Test rows are scored once, at the end. With `checkpoint_path`
    the state is saved after every epoch, and a call with the same path and `identity` goes on from there. identity:
    what the run's numbers depend on; by default model, settings, first weights, data, protocol and seed.
    `on_epoch` is called after every epoch. Raises `DataError` when the validation split holds one class or the model
    was built for other data,
    `DeviceError` for a missing device or too little memory, `TrainingError` when the loss is not finite.
    """
    return drained(
        fit_epochs(
            model,
            data,
            protocol,
            seed=seed,
            device=device,
            checkpoint_path=checkpoint_path,
            identity=identity,
            on_epoch=on_epoch,
        )
    )


def fit_epochs(
    model: CTRModel,
    data: CTRDataset,
    protocol: Protocol,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    checkpoint_path: Path | None = None,
    identity: dict[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Generator[None, None, FitResult]:
    """Do what `fit` does, and yield after some steps, and each epoch, have been handed to the device.

    A GPU works on them while the caller turns to another run; on a CPU they are done by then.
    """
    device = checked_device(device)
    if not isinstance(model, CTRModel):
        raise SettingError(f"model is {model!r}; give one that build_model made, or a CTRModel of your own.")
    if not isinstance(data, CTRDataset):
        raise DataError(f"data is a {type(data).__name__}; give what load_dataset or load_table returned.")
    if not isinstance(protocol, Protocol):
        raise SettingError(f"protocol is {protocol!r}; give a Protocol, such as Protocol.named('bars').")
    if model.schema != data.schema:
        raise DataError(f"The model was built for another schema than that of {data.name}. Build it with data.schema.")
    if checkpoint_path is not None:
        checkpoint_path = Path(checkpoint_path)
        known = _identity(model, data, protocol, seed) if identity is None else identity
    for name, split in (("validation split", data.valid), ("test split", data.test)):
        check_both_classes(split.labels, name)  # fail before training, not after
    with out_of_memory_explained():
        trainer = Trainer(model, data.to(device), protocol, seed, device)
        try:
            state = checkpoint.load(checkpoint_path, known) if checkpoint_path else None
            if state is not None:
                trainer.restore(state)
            while not trainer.progress.finished(protocol):
                handed_over = yield from trainer.start_epoch()
                yield
                epoch = trainer.finish_epoch(handed_over)
                if checkpoint_path:
                    checkpoint.save(checkpoint_path, trainer.state() | {"identity": known})
                if on_epoch:
                    on_epoch(epoch)
            return trainer.result()
        finally:
            trainer.close()


def _identity(model: CTRModel, data: CTRDataset, protocol: Protocol, seed: int) -> dict[str, Any]:
    """Return what a run's numbers depend on, but for the code."""
    from ctrlib.train import NUMERICS

    first = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        first.update(name.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    settings = json.dumps(asdict(model.settings), sort_keys=True)
    values = {"model": model.name, "settings": settings, "weights": first.hexdigest(), "fingerprint": data.fingerprint}
    return values | {"protocol": protocol.to_dict(), "seed": seed, "numerics": NUMERICS}


def drained(work: Generator[None, None, T]) -> T:
    """Run a generator to its end and return its value."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            value: T = end.value
            return value


@dataclass
class _HandedOver:
    """An epoch's results that may still be on their way: scalars on the device, and the clock."""

    number: int
    rate: float
    loss: Tensor
    scores: _DeviceScores
    clock: _Clock


class Trainer:
    """One run: model, optimiser, random streams and progress. `fit` drives it; benchmarks take its `step`."""

    def __init__(self, model: CTRModel, data: CTRDataset, protocol: Protocol, seed: int, device: torch.device) -> None:
        keep_freed_memory()
        self.model = model.to(device)
        self.data, self.protocol, self.seed, self.device = data, protocol, seed, device
        self.masks = seeds.stream(seed, "dropout", device=device)
        for module in model.modules():
            if isinstance(module, Dropout):
                module.generator = self.masks
        tables = {id(p) for p in model.embedding_parameters()}
        decay = [
            (p, protocol.embedding_regularizer if id(p) in tables else protocol.network_regularizer)
            for p in model.parameters()
            if p.requires_grad
        ]
        self.optimiser = ClippedAdam(decay, protocol.learning_rate, protocol.max_gradient_norm)
        captured = device.type == "cuda" and model.capturable
        self.step: Step = CapturedStep(self._step, [self.masks]) if captured else self._step
        self.progress = _Progress(protocol.learning_rate)
        self.best = _copy(model)

    def start_epoch(self) -> Generator[None, None, _HandedOver]:
        """Hand an epoch and its validation to the device; yield now and then, before its queue is full."""
        number, rate = len(self.progress.epochs) + 1, self.progress.learning_rate
        self.optimiser.set_rate(rate)
        clock = _Clock(self.device)
        loss = yield from self._train(number)
        clock.mark()
        scores = _score(self.model, self.data.valid, self.protocol.precision)
        clock.mark()
        return _HandedOver(number, rate, loss, scores, clock)

    def finish_epoch(self, work: _HandedOver) -> Epoch:
        """Wait for an epoch's results and take them in."""
        loss = float(work.loss)
        if not math.isfinite(loss):
            raise TrainingError(f"The training loss is {loss} in epoch {work.number}. Lower the learning rate.")
        scores = work.scores.read()
        train_seconds, evaluate_seconds = work.clock.seconds()
        epoch = Epoch(work.number, loss, work.rate, scores.auc, scores.logloss, train_seconds, evaluate_seconds)
        if self.progress.update(epoch, self.protocol):
            self.best = _copy(self.model)
        return epoch

    def _train(self, number: int) -> Generator[None, None, Tensor]:
        """Train on every row once; return the mean loss."""
        self.model.train()
        source = batches_of(self.data.train, self.protocol.batch_size, self.device)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for step, (ids, labels) in enumerate(source.epoch(seeds.stream(self.seed, "batches", number)), start=1):
            total += self.step(ids, labels).double() * len(labels)
            if step % STEPS_A_TURN == 0:
                yield
        return total / source.rows

    def close(self) -> None:
        """Give back what a recorded step holds on the device."""
        if isinstance(self.step, CapturedStep):
            torch.cuda.synchronize(self.device)
            self.step.close()
        del self.step  # it refers to this object; without the circle its memory goes at once

    def _step(self, ids: Tensor, labels: Tensor) -> Tensor:
        self.optimiser.zero_grad()
        with products_in(self.protocol.precision, self.device):
            loss = self.model.training_loss(ids, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """Return everything that the next epoch depends on."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "masks": self.masks.get_state(),
            "progress": self.progress.to_dict(),
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.masks.set_state(state["masks"])
        self.progress = _Progress.from_dict(state["progress"])
        self.best = state["best"]

    def result(self) -> FitResult:
        """Restore the best weights and score them on training, validation and test rows."""
        if self.progress.best_epoch:
            self.model.load_state_dict(self.best)
        started = time.perf_counter()
        precision = self.protocol.precision
        valid, test = (evaluate(self.model, split, precision) for split in (self.data.valid, self.data.test))
        train = _seen_rows(self.data.train, len(self.data.valid))
        train_scores = evaluate(self.model, train, precision) if 0 < train.labels.sum() < len(train) else None
        final = time.perf_counter() - started
        epochs = self.progress.epochs
        train_seconds = sum(epoch.train_seconds for epoch in epochs)
        evaluate_seconds = sum(epoch.evaluate_seconds for epoch in epochs) + final
        return FitResult(
            best_epoch=self.progress.best_epoch,
            epochs=epochs,
            train=train_scores,
            valid=valid,
            test=test,
            seconds={
                "train": train_seconds,
                "evaluate": evaluate_seconds,
                "total": train_seconds + evaluate_seconds,
            },
            samples_per_second=len(epochs) * len(self.data.train) / train_seconds,
            parameters=self.model.num_parameters,
        )


def _seen_rows(train: Split, count: int) -> Split:
    """Return `count` training rows, evenly spaced, or all where there are fewer."""
    rows = torch.linspace(0, len(train) - 1, min(count, len(train)), dtype=torch.float64).long()
    rows = rows.to(train.labels.device)
    return Split(train.ids[rows], train.labels[rows])


@torch.no_grad()
def predict(model: CTRModel, split: Split, precision: str = "fp32") -> Tensor:
    """Return the logits (N,) of a split's rows, in evaluation mode and without gradients.

    precision: of matrix products, as in `Protocol`.
    """
    if not hasattr(split, "ids"):
        raise DataError(f"predict takes a split, such as data.test, not a {type(split).__name__}.")
    model.eval()
    device = next(model.parameters()).device
    with products_in(precision, device):
        return widened(torch.cat([model(ids) for ids, _ in batches_of(split, EVALUATION_ROWS, device).epoch()]))


def evaluate(model: CTRModel, split: Split, precision: str = "fp32") -> Scores:
    """Return exact AUC and logloss on a split. precision: of matrix products, as in `Protocol`.

    Raises `DataError` for a split of one class, or of other fields.
    """
    if not hasattr(split, "labels"):
        raise DataError(f"evaluate takes a split, such as data.test, not a {type(split).__name__}.")
    check_both_classes(split.labels)
    columns, largest = model.schema.num_columns, model.schema.table_rows - 1
    if split.ids.shape[1] != columns or (isinstance(split, Split) and int(split.ids.max()) > largest):
        raise DataError("The split has other fields or tokens than the model was built for.")
    return _score(model, split, precision).read()


def _score(model: CTRModel, split: Split, precision: str) -> _DeviceScores:
    logits = predict(model, split, precision)
    labels = split.labels.to(logits.device)
    return _DeviceScores(torch.isfinite(logits).all(), device_auc(logits, labels), device_logloss(logits, labels))


@dataclass
class _DeviceScores:
    """Scores as scalars on the device, which it may still be computing."""

    finite: Tensor
    auc: Tensor
    logloss: Tensor

    def read(self) -> Scores:
        """Wait for the scores."""
        if not bool(self.finite):
            raise TrainingError("The model's logits are not finite. Lower the learning rate.")
        return Scores(float(self.auc), float(self.logloss))


class _Clock:
    """Seconds between marks: the processor's clock, or events in a GPU's own queue."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[Any] = []
        self.mark()

    def mark(self) -> None:
        """Set a mark after the work handed over so far."""
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Return the seconds from each mark to the next; waits for the last one."""
        pairs = pairwise(self.marks)
        if self.device.type != "cuda":
            return [after - before for before, after in pairs]
        self.marks[-1].synchronize()
        return [before.elapsed_time(after) / 1000.0 for before, after in pairs]


def checked_device(device: str | torch.device) -> torch.device:
    """Return the device; raise `DeviceError` when it is not there."""
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"'{device}' is not a device. Use 'cpu' or 'cuda'.") from error
    if chosen.type not in ("cpu", "cuda"):
        raise DeviceError(f"Device '{device}' is not supported. Use 'cpu' or 'cuda'.")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError("Device 'cuda' was asked for, but this PyTorch sees no GPU. Use device='cpu'.")
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)  # graphs, events and streams belong to the current GPU
    return chosen


@contextmanager
def out_of_memory_explained() -> Iterator[None]:
    """Turn an out-of-memory error into one that names the setting to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise DeviceError(f"Out of memory: lower batch_size or embedding_dim. ({error})") from error
    except RuntimeError as error:
        if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        raise DeviceError(f"Out of memory: lower batch_size or embedding_dim. ({error})") from error


def _copy(model: CTRModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
