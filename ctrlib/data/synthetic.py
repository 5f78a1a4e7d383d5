"""Synthetic clicks from a known law, so that large training can be measured without the real data.

For a row with one token t_f in every field f:

    P(t_f has rank r)  ~  r ** -exponent                                   fields are independent
    logit              =  bias + sum_f e_f(t_f) + sum_(f,g) <u_f(t_f), u_g(t_g)>
    p                  =  sigmoid(logit),   label = 1 with probability p

The second sum runs over the planted pairs of fields. Effects e and vectors u have mean 0 over their field's
tokens, so no sum of one-field effects holds any part of an interaction. Because p is known for every row, so is
the best AUC that any model can reach (`best_auc`).

Every value is a hash of (seed, purpose, number), so row n is the same however many rows are drawn. Ids take only
operations that IEEE 754 rounds in one way and are the same on every machine. Labels also need `exp`: one differs
only when its uniform number lies within a rounding error of p, about once in 1e15 rows.

Dimension letters: N samples, C id columns (one a field), T tokens of a field, K width of the vectors u.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ctrlib.data.dataset import SPLITS, CTRDataset, Split, fingerprint
from ctrlib.data.schema import Field, Schema
from ctrlib.errors import SettingError, unknown
from ctrlib.seeds import stream_seed

Ids = NDArray[np.int32]
Floats = NDArray[np.float64]

CHUNK = 1 << 14  # rows drawn at a time
WIDTH = 4  # K
LARGEST_SCALE = 30.0  # of the logit; beyond it nearly every p is 0 or 1

# Vocabulary sizes of Criteo_x4 in the logs of the QNN paper's authors, padding and OOV included: 910,747 rows.
CRITEO_NUMERIC = (44, 99, 122, 41, 220, 112, 80, 69, 92, 6, 27, 37, 72)
CRITEO_CATEGORICAL = (
    *(1446, 554, 157339, 117822, 306, 18, 11882, 630, 5, 39530, 5131, 156656, 3176),
    *(28, 11043, 148913, 12, 4560, 2003, 5, 154564, 18, 17, 53031, 82, 40955),
)


class Rows(NamedTuple):
    """Drawn rows: ids (N, C) int32, labels (N,) float32 of 0 and 1, p (N,) float64, the chance of a 1."""

    ids: Ids
    labels: NDArray[np.float32]
    p: Floats


def synthetic_dataset(
    rows: tuple[int, int, int], vocab_sizes: Sequence[int], *, seed: int = 0, name: str = "synthetic", **settings: Any
) -> CTRDataset:
    """Draw train, valid and test rows of a `Law` with one categorical field for each of `vocab_sizes`.

    A size counts the padding and the OOV row, as in `Schema`; neither is ever drawn. `settings`: those of `Law`.
    Raises SettingError for a setting that is unknown or out of range.
    """
    fields = tuple(Field(f"f{number}") for number in range(1, len(vocab_sizes) + 1))
    return Law(Schema(fields, tuple(vocab_sizes)), seed=seed, **_known(settings)).dataset(rows, name)


def criteo_shaped(rows: tuple[int, int, int], *, scale: float = 1.0, seed: int = 0, **settings: Any) -> CTRDataset:
    """Draw a data set with the 39 fields and the 910,747 table rows of Criteo_x4.

    `scale` multiplies every vocabulary size, for a smaller or larger table; at least 3 rows a field are kept.
    """
    return Law(criteo_schema(scale), seed=seed, **_known(settings)).dataset(rows, "criteo-shaped")


def criteo_schema(scale: float = 1.0) -> Schema:
    """Return the schema of `criteo_shaped`: 13 bucketed numbers I1.. and 26 categories C1.. ."""
    if not 0 < scale <= 100:
        raise SettingError(f"scale must be above 0 and at most 100, not {scale!r}.")
    numeric = [Field(f"I{number}", "numeric", buckets="criteo") for number in range(1, 14)]
    categorical = [Field(f"C{number}") for number in range(1, 27)]
    sizes = tuple(max(3, round(size * scale)) for size in CRITEO_NUMERIC + CRITEO_CATEGORICAL)
    return Schema((*numeric, *categorical), sizes)


@dataclass(frozen=True)
class Law:
    """How rows and clicks come about.

    exponent       of the tokens' power law, a multiple of 1/8 (so that square roots suffice); 0 is uniform
    positive_rate  mean of p
    auc            best AUC that a model can reach
    interaction    share of the planted pairs in the variance of the logit
    pairs          numbers (f, g) of the fields that interact, f < g; default: each field with the next

    positive_rate and auc are met on a sample of 16,384 rows, so they hold to about 0.01.
    """

    schema: Schema
    seed: int = 0
    exponent: float = 1.125
    positive_rate: float = 0.25
    auc: float = 0.8
    interaction: float = 0.5
    pairs: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        if not self.schema.is_flat or not self.schema.fields or min(self.schema.vocab_sizes) < 3:
            raise SettingError("Synthetic fields have one id column and 3 rows or more: padding, OOV and a token.")
        if not 0 <= self.exponent <= 4 or self.exponent * 8 % 1:
            raise SettingError(f"exponent must be a multiple of 1/8 from 0 to 4, not {self.exponent!r}.")
        if not 0.01 <= self.positive_rate <= 0.99:
            raise SettingError(f"positive_rate must lie between 0.01 and 0.99, not {self.positive_rate!r}.")
        if not 0.5 < self.auc < 1:
            raise SettingError(f"auc must lie between 0.5 and 1, not {self.auc!r}.")
        if not 0 <= self.interaction <= 1:
            raise SettingError(f"interaction must lie between 0 and 1, not {self.interaction!r}.")
        for pair in self.planted:
            if len(pair) != 2 or not 0 <= pair[0] < pair[1] < self.schema.num_fields:
                raise SettingError(f"pairs: {pair!r} is not (f, g) with 0 <= f < g < {self.schema.num_fields}.")

    @property
    def planted(self) -> tuple[tuple[int, int], ...]:
        """The pairs of fields that interact."""
        neighbours = tuple((f, f + 1) for f in range(self.schema.num_fields - 1))
        return neighbours if self.pairs is None else tuple(self.pairs)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings without the schema, for the fingerprint and the notes."""
        names = ("seed", "exponent", "positive_rate", "auc", "interaction")
        return {name: getattr(self, name) for name in names} | {"pairs": [list(pair) for pair in self.planted]}

    def dataset(self, rows: tuple[int, int, int], name: str = "synthetic") -> CTRDataset:
        """Return the first rows of each split as a data set; `notes["best_auc"]` holds each split's best AUC."""
        if len(rows) != 3 or not all(isinstance(n, int) and n > 0 for n in rows):
            raise SettingError(f"rows must be three numbers above 0 (train, valid, test), not {rows!r}.")
        drawn = {split: self.draw(split, n) for split, n in zip(SPLITS, rows, strict=True)}
        settings = {**self.settings, "rows": list(rows)}
        notes = {
            **settings,
            "positives": {split: int(part.labels.sum(dtype=np.float64)) for split, part in drawn.items()},
            "best_auc": {split: best_auc(part.p) for split, part in drawn.items()},
        }
        mark = fingerprint(name, settings, self.schema, {split: part[:2] for split, part in drawn.items()})
        splits = {
            split: Split(torch.from_numpy(part.ids), torch.from_numpy(part.labels)) for split, part in drawn.items()
        }
        return CTRDataset(name, self.schema, **splits, fingerprint=mark, notes=notes)

    def draw(self, split: str, rows: int) -> Rows:
        """Return the first rows of a split in memory; `split` is any name."""
        ids = np.empty((rows, self.schema.num_fields), dtype=np.int32)
        labels, p = np.empty(rows, dtype=np.float32), np.empty(rows)
        for number, part in enumerate(self.chunks(split, rows)):
            place = slice(number * CHUNK, number * CHUNK + len(part.p))
            ids[place], labels[place], p[place] = part
        return Rows(ids, labels, p)

    def chunks(self, split: str, rows: int) -> Iterator[Rows]:
        """Yield the first rows of a split, a few thousand at a time."""
        scale, bias = self._calibration
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            ids = self._ids(split, start, count)
            p = _sigmoid(scale * self._raw(ids).sum(axis=0) + bias)
            labels = _uniform(stream_seed(self.seed, "labels", split), start, count) < p
            yield Rows(ids, labels.astype(np.float32), p)

    def parts(self, ids: Ids) -> tuple[Floats, Floats]:
        """Return the two parts of the logits of any ids (N, C): (bias + one-field effects, interactions), each (N,)."""
        scale, bias = self._calibration
        raw = [self._raw(ids[start : start + CHUNK]) for start in range(0, len(ids), CHUNK)]
        additive, interaction = scale * np.concatenate(raw, axis=1)
        return bias + additive, interaction

    def _ids(self, split: str, start: int, count: int) -> Ids:
        ids = np.empty((count, self.schema.num_fields), dtype=np.int32)
        for f, field in enumerate(self._fields):
            u = _uniform(stream_seed(self.seed, "ids", split, f), start, count)
            rank = np.searchsorted(field.cumulative, u * field.cumulative[-1], side="right")
            # Rounding may lift u * total to the total itself.
            ids[:, f] = field.first + field.token_of_rank[np.minimum(rank, len(field.effect) - 1)]
        return ids

    def _raw(self, ids: Ids) -> Floats:
        """Return the logits' two parts (2, N) before scale and bias; together they have variance 1."""
        tokens = [ids[:, f] - field.first for f, field in enumerate(self._fields)]
        used = {f for pair in self.planted for f in pair}
        u = {f: self._fields[f].vectors[tokens[f]] for f in used}  # each (N, K)
        parts = np.zeros((2, len(ids)))
        for field, token in zip(self._fields, tokens, strict=True):
            parts[0] += field.effect[token]
        for f, g in self.planted:
            parts[1] += np.einsum("nk,nk->n", u[f], u[g])
        return parts * self._weights[:, None]

    @cached_property
    def _fields(self) -> list[_FieldLaw]:
        sizes = zip(self.schema.offsets, self.schema.vocab_sizes, strict=True)
        return [_field_law(offset + 1, size - 2, self, f) for f, (offset, size) in enumerate(sizes)]

    @cached_property
    def _weights(self) -> Floats:
        """Factors (2,) that give the two parts their shares of variance 1.

        Fields are independent and all means are 0, so variances add: of a pair, sum_kl C_f[k, l] C_g[k, l].
        """
        variance = np.zeros(2)
        variance[0] = sum(field.variance for field in self._fields)
        variance[1] = sum((self._fields[f].covariance * self._fields[g].covariance).sum() for f, g in self.planted)
        share = np.array([1 - self.interaction, self.interaction])
        if ((share > 0) & (variance <= 0)).any():
            raise SettingError("The fields have too few tokens: effects need a field of 4 rows, interactions a pair.")
        return np.sqrt(share / np.where(variance > 0, variance, 1.0))

    @cached_property
    def _calibration(self) -> tuple[float, float]:
        """Scale and bias that meet `auc` and `positive_rate`."""
        raw = self._raw(self._ids("calibration", 0, CHUNK)).sum(axis=0)

        def bias(scale: float) -> float:
            reach = 10 + scale * float(np.abs(raw).max())
            return _bisect(-reach, reach, lambda b: float(_sigmoid(scale * raw + b).mean()) > self.positive_rate)

        def reached(scale: float) -> bool:
            return best_auc(_sigmoid(scale * raw + bias(scale))) > self.auc

        if not reached(LARGEST_SCALE):
            raise SettingError(f"The fields have too few tokens for a best AUC of {self.auc}. Lower auc or add tokens.")
        scale = round(_bisect(0.0, LARGEST_SCALE, reached), 6)
        return scale, round(bias(scale), 6)


@dataclass(frozen=True)
class _FieldLaw:
    """Law of one field: its first table row that is drawn, and per token effect (T,) and vectors u (T, K)."""

    first: int
    cumulative: Floats  # (T,) sums of the unnormalised probabilities, by rank
    token_of_rank: Ids
    effect: Floats
    vectors: Floats
    variance: float  # of the effect
    covariance: Floats  # of the vectors, (K, K)


def _field_law(first: int, tokens: int, law: Law, f: int) -> _FieldLaw:
    weight = _power_law(tokens, law.exponent)
    # Frequent tokens are scattered over the table, as they are when a vocabulary is sorted by its texts.
    order = np.argsort(_bits(stream_seed(law.seed, "order", f), 0, tokens), kind="stable")
    p = np.empty(tokens)
    p[order] = weight / weight.sum()
    effect = _normal(stream_seed(law.seed, "effect", f), tokens)
    vectors = _normal(stream_seed(law.seed, "vectors", f), tokens * WIDTH).reshape(tokens, WIDTH)
    effect, vectors = effect - p @ effect, vectors - p @ vectors
    variance, covariance = float(p @ effect**2), vectors.T @ (p[:, None] * vectors)
    if tokens == 1:  # rounding aside, a single token has no effect
        variance, covariance = 0.0, np.zeros((WIDTH, WIDTH))
    # np.cumsum adds one by one, unlike np.sum, so its bits are the same on every machine.
    return _FieldLaw(first, np.cumsum(weight), order.astype(np.int32), effect, vectors, variance, covariance)


def best_auc(p: Floats) -> float:
    """Return the AUC of ranking rows by their true probabilities p (N,), in expectation over the labels.

        sum_(i != j) p_i (1 - p_j) h(p_i, p_j)  /  sum_(i != j) p_i (1 - p_j),      h = 1 if p_i > p_j, 1/2 if equal

    This is the expected number of ordered pairs over the expected number of pairs. No ranking has more ordered
    pairs in expectation. The mean of the empirical AUC, a mean of ratios, differs from it by a term of order 1/N.
    Computed in N log N: rows sorted by p, with weight p as positives and 1 - p as negatives.
    """
    values, group = np.unique(p, return_inverse=True)
    positive = np.bincount(group, p, minlength=len(values))
    negative = np.bincount(group, 1 - p, minlength=len(values))
    below = np.cumsum(negative) - negative
    itself = float((p * (1 - p)).sum())  # i = j: a row is no pair with itself
    ordered = float((positive * (below + negative / 2)).sum()) - itself / 2
    return ordered / (float(positive.sum()) * float(negative.sum()) - itself)


def _power_law(tokens: int, exponent: float) -> Floats:
    """Return rank ** -exponent for the ranks 1..T with products and square roots alone (see the module's text)."""
    eighths = round(exponent * 8)
    power, root = np.ones(tokens), np.arange(1, tokens + 1, dtype=np.float64)
    for _ in range(eighths // 8):
        power *= root
    for place in (4, 2, 1):
        root = np.sqrt(root)
        if eighths & place:
            power *= root
    return 1 / power


def _bits(key: int, start: int, count: int) -> NDArray[np.uint64]:
    """Return numbers start.. of the SplitMix64 stream of `key` (Steele, Lea and Flood, OOPSLA 2014)."""
    z = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(key)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def _uniform(key: int, start: int, count: int) -> Floats:
    """Return multiples of 2^-53 in [0, 1)."""
    return (_bits(key, start, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _normal(key: int, count: int) -> Floats:
    """Return nearly normal values of variance 1: sums of four 16-bit numbers, which need no logarithm."""
    total = _bits(key, 0, count).view(np.uint16).reshape(count, 4).sum(axis=1, dtype=np.int64)
    values: Floats = (total - 2 * 65535) / math.sqrt((65536**2 - 1) / 3)
    return values


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def _bisect(low: float, high: float, too_high: Callable[[float], bool]) -> float:
    for _ in range(36):
        middle = (low + high) / 2
        low, high = (low, middle) if too_high(middle) else (middle, high)
    return (low + high) / 2


def _known(settings: dict[str, Any]) -> dict[str, Any]:
    known = [name for name in Law.__dataclass_fields__ if name not in ("schema", "seed")]
    for name in settings:
        if name not in known:
            raise unknown("setting of a synthetic data set", name, known)
    return settings
