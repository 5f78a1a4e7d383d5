"""Frappe_x1: app usage in context, in the split of Cheng et al. (2020) that both papers' benchmarks use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ctrlib.data.cards import Card, Frames
from ctrlib.data.dataset import SPLITS
from ctrlib.data.origins import Archive
from ctrlib.data.read import read_table
from ctrlib.data.schema import Field

FIELDS = tuple(
    Field(name)
    for name in (
        "user",
        "item",
        "daytime",
        "weekday",
        "isweekend",
        "homework",
        "cost",
        "weather",
        "country",
        "city",
    )
)

SOURCE = (
    "Baltrunas et al. (2015), Frappe: Understanding the Usage and Perception of Mobile App Recommendations "
    "In-The-Wild; split of Cheng et al. (2020); hub page https://huggingface.co/datasets/reczoo/Frappe_x1"
)
LICENCE = (
    "research use with acknowledgement; no redistribution without separate permission, no attempt to "
    "identify persons, no commercial use without permission"
)


def read(files: Mapping[str, Path]) -> Frames:
    """Read train.csv, valid.csv and test.csv, whose split is published."""
    return {split: read_table(files[f"{split}.csv"]) for split in SPLITS}


CARDS = {
    "frappe_x1": Card(
        title="Frappe, published split",
        source=SOURCE,
        licence=LICENCE,
        fields=FIELDS,
        label="label",
        splits="published, 7:2:1: 202,027 / 57,722 / 28,860 rows",
        checksums={
            "train.csv": "md5:ba7306e6c4fc19dd2cd84f2f0596d158",
            "valid.csv": "md5:88d51bf2173505436d3a8f78f2a59da8",
            "test.csv": "md5:3470f6d32713dc5f7715f198ca7c612a",
        },
        remarks=(
            "The loader was tested on the published valid.csv and test.csv and on the rebuilt "
            "train.csv, which has the same format; it has not met the published train.csv or its "
            "archive. Two sampled negatives stand beside each of 96,203 positives."
        ),
        read=read,
        min_count=2,
        random_split=False,
        origin=Archive("https://huggingface.co/datasets/reczoo/Frappe_x1/resolve/main/Frappe_x1.zip"),
    ),
    "frappe_x1-rebuilt": Card(
        title="Frappe, published split with rebuilt training negatives",
        source=SOURCE,
        licence=LICENCE,
        fields=FIELDS,
        label="label",
        splits="as frappe_x1: 202,027 / 57,722 / 28,860 rows",
        checksums={
            "train.csv": "sha256:8065410d419fb87f1e53669d9e1b97cf831d171e8af609b75fd880f7602aca9f",
            "valid.csv": "sha256:72b6a89fee413def6936bf0ab0be30b8c5aa200bd1d1fc533aca6eb0d3dd98e2",
            "test.csv": "sha256:f09423427a86efc87f9da3b7a2eb9bdd77f117e13458b00400e9d9fc8ac4f6d7",
        },
        remarks=(
            "The loader was tested on these files. valid.csv and test.csv are the published ones. In "
            "train.csv the 67,604 positives and all contexts are exact; the item of each of the 134,423 "
            "negatives was drawn again by the published rule, uniformly over the items that the user "
            "never used. It cannot be downloaded."
        ),
        read=read,
        min_count=2,
        random_split=False,
    ),
}
