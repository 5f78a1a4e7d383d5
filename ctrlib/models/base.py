"""What every click model shares: an embedding, a logit, and its own training loss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ctrlib import seeds
from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import FieldEmbedding, FirstOrder
from ctrlib.layers.embedding import INITIAL_STD, POOLINGS
from ctrlib.losses import LOSSES, STATE_LOSSES
from ctrlib.typed import typed

S = TypeVar("S", bound="ModelSettings")


@dataclass(frozen=True)
class ModelSettings:
    """Settings that every model takes.

    embedding_dim: D. embedding_std: standard deviation of the initial embeddings, though not of first-order weights.
    pooling: "mean" or "sum" of the vectors of a field with several values. dropout: rate in [0, 1). loss: a name in
    `ctrlib.losses`. passes: forward passes over one batch in training, K; more than one makes sense for a loss that
    compares passes.
    """

    embedding_dim: int = 16
    dropout: float = 0.1
    loss: str = "bce"
    passes: int = 1
    embedding_std: float = INITIAL_STD
    pooling: str = POOLINGS[0]

    def __post_init__(self) -> None:
        if self.loss not in {**LOSSES, **STATE_LOSSES}:
            raise unknown("loss", self.loss, [*LOSSES, *STATE_LOSSES])
        if self.embedding_dim < 1 or self.passes < 1:
            raise SettingError("embedding_dim and passes must be at least 1.")
        if not 0 < self.embedding_std < math.inf:
            raise SettingError(f"embedding_std must be a number above 0, not {self.embedding_std!r}.")
        if self.pooling not in POOLINGS:
            raise unknown("pooling", self.pooling, POOLINGS)
        if self.loss != "bce" and self.passes < 2:
            raise SettingError(f"Loss '{self.loss}' compares passes: set passes to 2 or more.")


def checked(settings: type[S], model: str, values: dict[str, Any]) -> S:
    """Return `settings(**values)`.

    Raises `SettingError` for an unknown setting, naming the nearest, and for a value of another type.
    """
    names = [f.name for f in dataclasses.fields(settings)]
    for name in values:
        if name not in names:
            raise unknown(f"setting of model {model}", name, names)
    return settings(**typed(f"model {model}", settings, values))


@dataclass(frozen=True)
class Origin:
    """Trained weights. model: a name in the registry. settings: all of the model's. tensors: its state.

    label: how an error calls them, for example the file's name.
    """

    model: str
    settings: dict[str, Any]
    schema: Schema
    tensors: dict[str, Tensor]
    label: str = "the weights"

    def difference(self, wanted: ModelSettings, names: Iterable[str] | None = None) -> str:
        """Return the first setting (of `names`, by default of all) that is not as wanted, in words; "" if none is.

        wanted: settings of a model of the same name.
        """
        theirs = checked(type(wanted), self.model, self.settings)
        for name in names or [f.name for f in dataclasses.fields(wanted)]:
            found, asked = getattr(theirs, name), getattr(wanted, name)
            if found != asked:
                return f"{name} = {found!r}; wanted is {asked!r}"
        return ""


class CTRModel(nn.Module):
    """Base of every model. ids (B, C) -> logits (B,).

    A subclass defines `interact`, from field vectors (B, F, D) to logits (B,). One with a first-order term also
    sets `first_order`, which is added to them. `training_loss` runs `interact` K times on one look-up, so a second
    pass costs no second gather. A model that is trained in stages takes over the weights of the stage before in
    `start_from`.
    """

    name: str = ""
    """The name in the registry by which `build_model` made it."""
    capturable: bool = True
    """Whether a step launches the same kernels every time, so that a GPU can replay it."""

    def __init__(self, schema: Schema, settings: ModelSettings) -> None:
        super().__init__()
        self.schema = schema
        self.settings = settings
        self.embedding = FieldEmbedding(schema, settings.embedding_dim, settings.embedding_std)
        self.first_order: FirstOrder | None = None

    def reset_tables(self, seed: int) -> None:
        """Draw the initial values of the embedding, and of the first-order table if the model has one.

        They depend on the seed and the table's shape alone.
        """
        self.embedding.reset(seeds.stream(seed, "embedding"))
        if self.first_order is not None:
            self.first_order.embedding.reset(seeds.stream(seed, "first-order"))

    def set_pooling(self) -> None:
        """Pool in every table as the settings say. A teacher's tables keep what its own settings say."""
        parts: list[nn.Module] = [self]
        while parts:
            for child in parts.pop().children():
                if isinstance(child, FieldEmbedding):
                    child.pooling = self.settings.pooling
                elif not isinstance(child, CTRModel):
                    parts.append(child)

    @property
    def width(self) -> int:
        """Width d = F * D of the flattened embedding."""
        return self.schema.num_fields * self.settings.embedding_dim

    def interact(self, e_BFD: Tensor) -> Tensor:
        """Return logits (B,) from field vectors (B, F, D)."""
        raise NotImplementedError

    def interact_passes(self, e_BFD: Tensor, passes: int) -> Tensor:
        """Return the logits of K passes over the same field vectors, (K, B)."""
        return torch.stack([self.interact(e_BFD) for _ in range(passes)])

    def interact_states(self, e_BFD: Tensor, passes: int) -> tuple[Tensor, Tensor]:
        """Return the logits of K passes, (K, B), and the last layer's states, (K, B, width)."""
        raise SettingError(
            f"Loss '{self.settings.loss}' compares the last layer's states, which {type(self).__name__} does not "
            f"give. Choose one of {', '.join(LOSSES)}, or QNN-alpha."
        )

    def add_first_order(self, ids: Tensor, logits: Tensor) -> Tensor:
        """Return logits (*, B) with the first-order term of the ids, if the model has one."""
        return logits if self.first_order is None else logits + self.first_order(ids)

    def forward(self, ids: Tensor) -> Tensor:
        return self.add_first_order(ids, self.interact(self.embedding(ids)))

    def training_loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of one batch, a scalar. Regularisers are the protocol's affair."""
        return self.click_loss(ids, self.embedding(ids), labels)

    def click_loss(self, ids: Tensor, e_BFD: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of all passes over the field vectors that were looked up, a scalar."""
        loss, passes = self.settings.loss, self.settings.passes
        if loss in STATE_LOSSES:
            logits_KB, states_KBd = self.interact_states(e_BFD, passes)
            return STATE_LOSSES[loss](self.add_first_order(ids, logits_KB), labels, states_KBd)
        return LOSSES[loss](self.add_first_order(ids, self.interact_passes(e_BFD, passes)), labels)

    def embedding_parameters(self) -> list[nn.Parameter]:
        """Parameters under the embedding regulariser: every table, first-order weights included."""
        return [p for name, p in self.named_parameters() if "embedding" in name]

    def origin(self) -> Origin:
        """Return a copy of the model's weights, for another that starts from them. `build_model` must have made it."""
        tensors = {name: value.detach().clone() for name, value in self.state_dict().items()}
        return Origin(self.name, dataclasses.asdict(self.settings), self.schema, tensors)

    def start_from(self, origin: Origin) -> None:
        """Take over the trained weights of another model. Raises `SettingError` where they do not fit.

        Most models start from fresh values and take none.
        """
        raise SettingError(f"{self.name or type(self).__name__} starts from fresh values, not from other weights.")

    @property
    def num_parameters(self) -> int:
        """Number of trainable values, the whole embedding table included."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
