"""ECKD: a plain MLP that learns from several trained teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.models import MODELS, CTRModel, ModelEntry, ModelSettings, build_model
from ctrlib.models.base import Origin, checked
from ctrlib.models.dnn import DNN, DNNSettings

NAME = "ECKD"
WEIGHTINGS = ("learned", "mean")


@dataclass(frozen=True)
class ECKDSettings(DNNSettings):
    r"""Settings of ECKD; those inherited are the student's.

    teachers: pairs of a model's name and what differs from its defaults, no two alike; a teacher has the student's
    embedding_dim unless it names its own. distill_weight: $\kappa$. temperature: $\tau$, by which all logits are
    divided. weighting: "learned" is the gate, "mean" weighs all teachers alike.
    """

    teachers: tuple[tuple[str, Mapping[str, Any]], ...] = (("AutoInt", {}), ("DCNv2", {}), ("xDeepFM", {}))
    distill_weight: float = 1.0
    temperature: float = 1.0
    weighting: str = "learned"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "teachers", _pairs(self.teachers))
        known: list[tuple[str, ModelSettings]] = []
        for name, settings in self.teachers:
            one = name, self.of_teacher(name, settings)
            if one in known:
                raise SettingError(f"teachers holds the same {name} twice; give one of them other settings.")
            known.append(one)
        if self.distill_weight < 0:
            raise SettingError(f"distill_weight is {self.distill_weight}; the weight of a loss cannot be negative.")
        if self.temperature <= 0:
            raise SettingError(f"temperature is {self.temperature}; logits are divided by it, so it must be above 0.")
        if self.weighting not in WEIGHTINGS:
            raise unknown("weighting", self.weighting, WEIGHTINGS)
        if self.loss != "bce" or self.passes != 1:
            raise SettingError("ECKD brings its own loss; leave loss at 'bce' and passes at 1.")

    def of_teacher(self, name: str, settings: Mapping[str, Any]) -> ModelSettings:
        """Return all settings of a teacher."""
        if name == NAME:
            raise SettingError("An ECKD cannot be the teacher of an ECKD.")
        if name not in MODELS:
            raise unknown("teacher", name, MODELS)
        return checked(MODELS[name].settings, name, {"embedding_dim": self.embedding_dim, **settings})


def _pairs(teachers: Any) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Return a list of (name, settings) as tuples; raise `SettingError` for anything else and for an empty one."""
    listed = list(teachers) if isinstance(teachers, list | tuple) else []
    pairs = [one for one in listed if isinstance(one, list | tuple) and len(one) == 2 and isinstance(one[1], Mapping)]
    if not pairs or len(pairs) < len(listed):
        raise SettingError(
            f"teachers is {teachers!r}; give at least one pair of a model's name and its settings, "
            'such as [("DCNv2", {"cross_layers": 2})].'
        )
    return tuple((str(name), {key: _tuples(value) for key, value in settings.items()}) for name, settings in pairs)


def _tuples(value: Any) -> Any:
    """Return a list, and lists in it, as tuples, so that settings from a file are equal to those in code."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


class ECKD(DNN):
    r"""Logits (B,) of the student; a `DNN` of the same seed starts from the same values.

    With the student's logit $z_S$ and those of M trained teachers, $z_1, \dots, z_M$,

    $$z_S = \mathrm{MLP}(x),\qquad \mathcal L = \mathrm{bce}(\sigma(z_S), y)
      + \kappa \sum_{i=1}^{M} \alpha_i\, \mathrm{bce}\big(\sigma(z_S / \tau), \sigma(z_i / \tau)\big),\qquad
      \alpha = \mathrm{softmax}_i(w_i z_i + b_i)$$

    The loss is linear in $\alpha$, so it moves the gate to the teachers that are surest of what the student holds,
    whether or not they are right. The teachers have embedding tables of their own. They stay in evaluation mode, take
    no gradient and are computed in training alone. `start_from` is called once for each of them.

    Structure: ids -> (embedding -> MLP | teacher [M of them] -> gate [weights] -> distillation loss) -> logit

    Parameters: those of the DNN; in training $2M$ more with the learned weighting.

    Source: Zhu, Liu, Li, Lai, He, Chen, Zheng, "Ensembled CTR Prediction via Knowledge Distillation", CIKM 2020; the
    DS-MLP paper compares with it (4.1.4: teachers AutoInt+, DCNv2 and xDeepFM, "soft label + pre-train").

    Paper and code: The paper defines soft labels, the gate $\alpha$ for every sample, and early stopping on the
    validation rows' distillation loss. Here it is on validation AUC, as for all systems. The values of $\kappa$ and
    $\tau$, the start of $w$ and $b$, and whether the first term has a weight could not be verified: here 1, 1, 0 and
    no. The paper's other way to teach, regression on hidden states, is not offered.
    """

    settings: ECKDSettings

    def __init__(self, schema: Schema, settings: ECKDSettings) -> None:
        super().__init__(schema, settings)
        count = len(settings.teachers)
        self.gate: nn.ParameterDict | None = None
        if settings.weighting == "learned":  # starts as the mean
            self.gate = nn.ParameterDict({"weight": torch.zeros(count), "bias": torch.zeros(count)})
        dim = {"embedding_dim": settings.embedding_dim}
        teachers = [build_model(name, schema, **{**dim, **own}) for name, own in settings.teachers]
        self.teachers = nn.ModuleList(teachers).requires_grad_(False).eval()
        self.capturable = all(teacher.capturable for teacher in teachers)
        self.filled: set[int] = set()

    def train(self, mode: bool = True) -> ECKD:
        """Set training mode; the teachers stay in evaluation mode."""
        super().train(mode)
        self.teachers.eval()
        return self

    def teacher(self, index: int) -> CTRModel:
        """Return a teacher."""
        model = self.teachers[index]
        assert isinstance(model, CTRModel)
        return model

    def embedding_parameters(self) -> list[nn.Parameter]:
        """Parameters under the embedding regulariser: the student's table, none of a teacher's."""
        return list(self.embedding.parameters())

    @torch.no_grad()
    def teacher_logits(self, ids: Tensor) -> Tensor:
        """Return the logits of the teachers, (M, B)."""
        return torch.stack([teacher(ids) for teacher in self.teachers])

    def teacher_weights(self, logits_MB: Tensor) -> Tensor:
        r"""Return $\alpha$ (M, B) from the teachers' logits; a sample's weights add up to 1."""
        if self.gate is None:
            return torch.full_like(logits_MB, 1.0 / len(logits_MB))
        weight_M, bias_M = self.gate["weight"], self.gate["bias"]
        return torch.softmax(weight_M[:, None] * logits_MB + bias_M[:, None], dim=0)

    def training_loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of one batch, a scalar."""
        missing = [name for k, (name, _) in enumerate(self.settings.teachers) if k not in self.filled]
        if missing:
            raise SettingError(
                f"ECKD learns from trained teachers, and these have no weights yet: {', '.join(missing)}. "
                "Give them by start_from, or as parents of the run."
            )
        s = self.settings
        logits_B, teachers_MB = self(ids), self.teacher_logits(ids)
        # The cross entropy is linear in its target and the weights add up to 1, so one with the mixed target is enough.
        mixed_B = (self.teacher_weights(teachers_MB) * torch.sigmoid(teachers_MB / s.temperature)).sum(dim=0)
        soft = F.binary_cross_entropy_with_logits(logits_B / s.temperature, mixed_B)
        return F.binary_cross_entropy_with_logits(logits_B, labels) + s.distill_weight * soft

    def start_from(self, origin: Origin) -> None:
        """Take over the weights of one teacher: that of the origin's name and settings.

        Raises `SettingError` for another data schema, and where no teacher has that name and these settings.
        """
        if origin.schema != self.schema:
            raise SettingError(f"{origin.label} belongs to another data schema: its fields or vocabularies differ.")
        names = [name for name, _ in self.settings.teachers]
        slots = [k for k, name in enumerate(names) if name == origin.model]
        if not slots:
            raise SettingError(f"{origin.label} is a {origin.model}; the teachers here are {', '.join(names)}.")
        differences = {k: origin.difference(self.teacher(k).settings) for k in slots}
        fitting = [k for k, difference in differences.items() if not difference]
        if not fitting:
            raise SettingError(
                f"{origin.label} is no teacher here. It has {', or it has '.join(differences.values())}."
            )
        self.teacher(fitting[0]).load_state_dict(origin.tensors)
        self.filled.add(fitting[0])


def next_settings(origins: Sequence[Origin]) -> dict[str, Any]:
    """Return the settings that an ECKD needs to learn from these weights; all others are free."""
    return {"teachers": tuple((origin.model, origin.settings) for origin in origins)}


def build(name: str, schema: Schema, settings: ECKDSettings) -> ECKD:
    """Return an ECKD whose teachers have no weights yet."""
    return ECKD(schema, settings)


MODELS[NAME] = ModelEntry(ECKDSettings, build)
