r"""DS-MLP: two plain MLPs, the main one distilled from a teacher, then both aligned.

Training has three stages. *Teacher*: any model of the registry, trained as always. *Distill*: a `DSMLP` that starts
from the teacher's weights and minimises $\mathcal L_{CTR} + \lambda \mathcal L_{KD}$ (6). *Align*: a `DSMLP` that
starts from the distilled one and minimises $\mathcal L_{CTR} + \alpha \mathcal L_M + \beta \mathcal L_P$ (10). Each
stage is one call of `fit` on a model of its own, so each can be run, stopped and repeated alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctrlib.data.schema import Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.layers import CrossNetwork, FieldEmbedding, LogitMap, reset_linear_maps
from ctrlib.losses import COMPARED, DISTILLATION, distillation_loss, mean_probability_logit
from ctrlib.models import MODELS, CTRModel, ModelEntry, ModelSettings, build_model
from ctrlib.models.base import Origin
from ctrlib.models.dnn import DNNSettings, widths

STAGES = ("distill", "align")
STREAM_BODIES = ("mlp", "cross")
DISTILLED_STREAMS = ("both", "main", "alone")
HIDDEN_ALIGNMENT = ("none", "distill", "align", "both")

MODES: dict[str, dict[str, Any]] = {
    "written": {
        "distillation": "cross-entropy",
        "distill_on": "logits",
        "distill_streams": "main",
        "teacher_table": "frozen",
        "hidden_alignment": "align",
        "hidden_affine": False,
        "early_branch_losses": False,
    },
    "released": {
        "distillation": "squared-mean",
        "distill_on": "probabilities",
        "distill_streams": "both",
        "teacher_table": "shared",
        "hidden_alignment": "distill",
        "hidden_affine": True,
        "early_branch_losses": True,
    },
}
MODES["aligned"] = {**MODES["written"], "distill_streams": "alone"}


@dataclass(frozen=True)
class DSMLPSettings(DNNSettings):
    r"""Settings of DS-MLP; those left at "" or None are set by `mode`.

    stage: "distill" or "align". teacher, teacher_settings: the model to learn from and what differs from its defaults.
    main: "mlp", "cross" for cross networks in place of all MLPs, or "teacher" to align the teacher itself.
    hidden_units, parallel_units: widths of the main and the parallel MLP. parallels: number of parallel streams.
    shared_table: one embedding table for all streams. cross_layers: layers of each cross network.

    mode: "written" is Algorithm 1. "released" is the authors' class with the GDCN teacher. "aligned" is "written" with
    a main stream that is distilled by itself, as section 3.1.3 tells it: in Algorithm 1 the click loss asks the main
    stream for twice the logit that the teacher asks for, since the untrained parallel stream adds nothing to the mean.

    distillation: a name in `ctrlib.losses.DISTILLATION`. distill_on: "logits" or "probabilities", for squared losses.
    distill_weight: $\lambda$. temperature: $\tau$, by which both logits are divided.
    distill_streams: "both" learn and are averaged, "main" learns and both are averaged, or the main one is "alone".
    teacher_table: "frozen" leaves the teacher its own copy of the embedding table; "shared" lets it read the student's.
    hidden_alignment: stages with a batch norm before the heads: "none", "distill", "align" or "both".
    hidden_affine: whether that batch norm has weights. early_branch_losses: the branch losses in distillation too.
    alpha, beta: weights of the main and the parallel branch loss. fusion: "logits" (Eq. 7) or "probabilities"
    (Algorithm 1, with $\gamma = \tfrac12$).
    """

    dropout: float = 0.2
    batch_norm: bool = True
    stage: str = "distill"
    mode: str = "written"
    teacher: str = "GDCN"
    teacher_settings: Mapping[str, Any] = field(default_factory=dict)
    main: str = "mlp"
    parallel_units: tuple[int, ...] = (400, 400, 400)
    parallels: int = 1
    shared_table: bool = False
    cross_layers: int = 3
    distillation: str = ""
    distill_on: str = ""
    distill_weight: float = 1.0
    temperature: float = 1.0
    distill_streams: str = ""
    teacher_table: str = ""
    hidden_alignment: str = ""
    hidden_affine: bool | None = None
    early_branch_losses: bool | None = None
    alpha: float = 1.0
    beta: float = 1.0
    fusion: str = "logits"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in MODES:
            raise unknown("mode", self.mode, MODES)
        for name, value in MODES[self.mode].items():
            if getattr(self, name) in ("", None):
                object.__setattr__(self, name, value)
        object.__setattr__(self, "parallel_units", widths("parallel_units", self.parallel_units))
        if not self.hidden_units or not self.parallel_units:
            empty = "parallel_units" if self.hidden_units else "hidden_units"
            raise SettingError(f"{empty} is empty; a stream needs at least one layer.")
        for setting, choices in {
            "stage": STAGES,
            "main": (*STREAM_BODIES, "teacher"),
            "distillation": DISTILLATION,
            "distill_on": COMPARED,
            "distill_streams": DISTILLED_STREAMS,
            "teacher_table": ("frozen", "shared"),
            "hidden_alignment": HIDDEN_ALIGNMENT,
            "fusion": COMPARED,
        }.items():
            if getattr(self, setting) not in choices:
                raise unknown(setting, getattr(self, setting), choices)
        for setting in ("distill_weight", "alpha", "beta"):
            if getattr(self, setting) < 0:
                raise SettingError(f"{setting} is {getattr(self, setting)}; the weight of a loss cannot be negative.")
        if self.temperature <= 0:
            raise SettingError(f"temperature is {self.temperature}; logits are divided by it, so it must be above 0.")
        if self.parallels < 0 or self.cross_layers < 1:
            raise SettingError("parallels must be at least 0 and cross_layers at least 1.")
        if self.loss != "bce" or self.passes != 1:
            raise SettingError("DS-MLP brings its own loss; leave loss at 'bce' and passes at 1.")
        if self.main == "teacher" and self.stage == "distill":
            raise SettingError("main='teacher' has nothing to distill; it goes with stage='align'.")

    @property
    def needs_teacher(self) -> bool:
        """Whether this stage computes the teacher."""
        return self.stage == "distill" or self.main == "teacher"

    @property
    def normed(self) -> bool:
        """Whether hidden states are normalised in this stage."""
        return self.hidden_alignment in (self.stage, "both")


class Stream(nn.Module):
    """Field vectors (B, F, D) -> logits (B,): an MLP or a cross network, a batch norm if states are aligned, a head."""

    def __init__(self, width: int, units: tuple[int, ...], settings: DSMLPSettings) -> None:
        super().__init__()
        if settings.main == "cross":
            self.body: nn.Module = CrossNetwork(width, settings.cross_layers)
            out_width = width
        else:
            self.body = mlp = settings.mlp_of(width, units)
            out_width = mlp.out_width
        self.norm = nn.BatchNorm1d(out_width, affine=bool(settings.hidden_affine)) if settings.normed else nn.Identity()
        self.head = LogitMap(out_width)

    def forward(self, e_BFD: Tensor) -> Tensor:
        return self.head(self.norm(self.body(e_BFD.flatten(1)))).squeeze(1)  # type: ignore[no-any-return]


class DSMLP(CTRModel):
    r"""Logits (B,) of one stage. S streams, the main one first; P = S - 1 parallel ones.

    With $x$ the flattened embedding of the main stream and $x'$ that of the parallel one, from a table of its own:

    $$z_M = w_M^\top \mathrm{MLP}_M(x) + b_M,\qquad z_P = w_P^\top \mathrm{MLP}_P(x') + b_P,\qquad
      \hat y = \sigma\big(\tfrac12 (z_M + z_P)\big)$$
    $$\mathcal L_{distill} = \mathcal L_{CTR} + \lambda \mathcal L_{KD},\qquad
      \mathcal L_{align} = \mathcal L_{CTR} + \alpha \mathcal L_M + \beta \mathcal L_P$$

    With several parallel streams $\mathcal L_P$ is their mean, and $\hat y$ averages all streams alike (section 3.4
    leaves both open).

    Structure: ids -> (embedding -> MLP [main] -> linear map | embedding [its own] -> MLP [parallel] -> linear map |
    teacher [first stage] -> distillation loss) -> mean -> logit -> alignment loss

    Parameters: trained in the stage "align", $SVD$ (with a shared table $VD$), an MLP and $h_L + 1$ for each stream,
    and with affine hidden alignment $2 h_L$ more. The teacher's count only where it is trained.

    Source: Ou, Tian, Zhao, Zhang, Chen, Wen, "Dual-Stream MLP is All You Need for CTR Prediction", TKDD 2026, Eq. 6, 7
    and 10.

    Paper and code: The modes `written`, `released` and `aligned` of `DSMLPSettings` tell them apart. The authors' class
    compares probabilities by a squared mean where the paper has a cross entropy of logits, lets the teacher read the
    student's table, and aligns hidden states in the stage of distillation, where it has the branch losses too.
    """

    settings: DSMLPSettings

    def __init__(self, schema: Schema, settings: DSMLPSettings) -> None:
        super().__init__(schema, settings)
        s = settings
        tables = 0 if s.shared_table else s.parallels
        self.parallel_embeddings = nn.ModuleList(
            FieldEmbedding(schema, s.embedding_dim, s.embedding_std) for _ in range(tables)
        )
        self.main = None if s.main == "teacher" else Stream(self.width, s.hidden_units, s)
        self.parallels = nn.ModuleList(Stream(self.width, s.parallel_units, s) for _ in range(s.parallels))
        reset_linear_maps(self)
        for table in self.parallel_embeddings:
            assert isinstance(table, FieldEmbedding)
            draw = int(torch.randint(2**31, (1,)))  # from the seed of the weights
            table.reset(torch.Generator().manual_seed(draw))
        self.teacher = self._teacher() if s.needs_teacher else None
        self.started = not s.needs_teacher
        if s.stage == "distill" and s.distill_streams != "both":
            self.parallels.requires_grad_(False)
            self.parallel_embeddings.requires_grad_(False)

    def _teacher(self) -> CTRModel:
        s = self.settings
        if s.teacher == "DS-MLP":
            raise SettingError("A DS-MLP cannot be the teacher of a DS-MLP.")
        teacher = build_model(s.teacher, self.schema, **{"embedding_dim": s.embedding_dim, **s.teacher_settings})
        if teacher.settings.embedding_dim != s.embedding_dim:
            raise SettingError(
                f"The teacher's embedding_dim is {teacher.settings.embedding_dim}, the student's {s.embedding_dim}; "
                "the student starts from the teacher's table, so they must be equal."
            )
        if s.main == "teacher":
            self.embedding = teacher.embedding
            return teacher
        teacher.requires_grad_(False)
        if s.teacher_table == "shared":
            teacher.embedding = self.embedding
        return teacher.eval()

    def train(self, mode: bool = True) -> DSMLP:
        """Set training mode; a teacher that is learnt from stays in evaluation mode."""
        super().train(mode)
        if self.teacher is not None and self.main is not None:
            self.teacher.eval()
        return self

    def stream_logits(self, ids: Tensor) -> Tensor:
        """Return the logits of the main and the parallel streams, (S, B)."""
        if self.main is None:
            assert self.teacher is not None
            main = self.teacher(ids)
        else:
            main = self.main(self.embedding(ids))
        tables = [self.embedding] * len(self.parallels) if self.settings.shared_table else self.parallel_embeddings
        return torch.stack([main, *(s(table(ids)) for table, s in zip(tables, self.parallels, strict=True))])

    def fused(self, logits_SB: Tensor) -> Tensor:
        """Return the logits (B,) of the prediction."""
        s = self.settings
        if s.stage == "distill" and s.distill_streams == "alone":
            return logits_SB[0]
        return logits_SB.mean(dim=0) if s.fusion == "logits" else mean_probability_logit(logits_SB)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fused(self.stream_logits(ids))

    def training_loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of one batch in this stage (Eq. 6 or 10), a scalar."""
        if not self.started:
            raise SettingError(
                f"The stage '{self.settings.stage}' starts from the weights of the stage before. Give them by "
                "start_from, or as the file of ctrlib fit --start."
            )
        s = self.settings
        logits_SB = self.stream_logits(ids)
        loss = F.binary_cross_entropy_with_logits(self.fused(logits_SB), labels)
        if s.stage == "distill":
            assert self.teacher is not None
            with torch.no_grad():
                teacher_B = self.teacher(ids)
            loss = loss + s.distill_weight * distillation_loss(
                s.distillation, logits_SB[0], teacher_B, temperature=s.temperature, on=s.distill_on
            )
        if s.stage == "align" or s.early_branch_losses:
            branches = F.binary_cross_entropy_with_logits(logits_SB, labels.expand_as(logits_SB), reduction="none")
            each_S = branches.mean(dim=1)
            loss = loss + s.alpha * each_S[0]
            if s.parallels:
                loss = loss + s.beta * each_S[1:].mean()
        return loss

    def start_from(self, origin: Origin) -> None:
        """Take over the teacher's weights, or in the stage "align" those of the distilled model.

        Raises `SettingError` for weights of another model, other settings or another data schema.
        """
        if origin.schema != self.schema:
            raise SettingError(f"{origin.label} belongs to another data schema: its fields or vocabularies differ.")
        if self.teacher is not None:
            self._start_from_teacher(origin, self.teacher)
        else:
            self._start_from_distilled(origin)
        self.started = True

    def _start_from_teacher(self, origin: Origin, teacher: CTRModel) -> None:
        if origin.model != self.settings.teacher:
            raise SettingError(f"{origin.label} is a {origin.model}; the teacher here is {self.settings.teacher}.")
        _check_equal(origin, teacher.settings)
        teacher.load_state_dict(origin.tensors)
        with torch.no_grad():
            self.embedding.weight.copy_(origin.tensors["embedding.weight"])

    def _start_from_distilled(self, origin: Origin) -> None:
        if origin.model != "DS-MLP" or origin.settings["stage"] != "distill":
            what = "a DS-MLP that is already aligned" if origin.model == "DS-MLP" else f"a {origin.model}"
            raise SettingError(f"{origin.label} is {what}; the stage 'align' starts from a distilled DS-MLP.")
        _check_equal(origin, self.settings, ARCHITECTURE)
        own = self.state_dict()
        taken = {name: value for name, value in origin.tensors.items() if name in own}
        self.load_state_dict(own | taken)


def next_settings(origin: Origin) -> dict[str, Any]:
    """Return the settings that a DS-MLP needs to start from these weights; all others are free.

    Weights of a distilled DS-MLP lead to the stage "align", those of any other model to "distill".
    """
    names = ARCHITECTURE if origin.model == "DS-MLP" else TABLE
    kept = {name: origin.settings[name] for name in names if name in origin.settings}  # older weights lack some
    if origin.model == "DS-MLP":
        return {"stage": "align", **kept}
    return {"stage": "distill", **kept, "teacher": origin.model, "teacher_settings": origin.settings}


TABLE = ("embedding_dim", "pooling")
ARCHITECTURE = (
    *TABLE,
    "hidden_units",
    "parallel_units",
    "parallels",
    "shared_table",
    "main",
    "batch_norm",
    "activation",
)


def _check_equal(origin: Origin, settings: ModelSettings, names: Iterable[str] | None = None) -> None:
    """Raise `SettingError` naming the first setting in which the origin differs."""
    if difference := origin.difference(settings, names):
        raise SettingError(f"{origin.label} has {difference}.")


def build(name: str, schema: Schema, settings: DSMLPSettings) -> DSMLP:
    """Return a DS-MLP for one stage."""
    return DSMLP(schema, settings)


MODELS["DS-MLP"] = ModelEntry(DSMLPSettings, build)
