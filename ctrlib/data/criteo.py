"""Criteo's display advertisements: the two prepared splits of the papers, and the raw file of the contest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ctrlib.data import hub
from ctrlib.data.cards import Card
from ctrlib.data.layout import Derived, Layout, zero_if_empty
from ctrlib.data.schema import Field

NUMERIC = tuple(f"I{n}" for n in range(1, 14))
CATEGORICAL = tuple(f"C{n}" for n in range(1, 27))
ZERO: Mapping[str, Derived] = {name: Derived(name, zero_if_empty) for name in NUMERIC}

FIELDS_X4 = (
    *(Field(name, kind="numeric", buckets="criteo") for name in NUMERIC),
    *(Field(name) for name in CATEGORICAL),
)
FIELDS_X1 = (
    *(Field(name, kind="numeric", buckets="quantile:100") for name in NUMERIC),
    *(Field(name) for name in CATEGORICAL),
)

LAYOUT = Layout(hub.SPLIT_FILES, derived=ZERO)
RAW = Layout(
    {"all": "train.txt"},
    separator="\t",
    header=("Label", *NUMERIC, *CATEGORICAL),
    quoted=False,
    derived=ZERO,
)

SOURCE = "Kaggle competition criteo-display-ad-challenge (2014), https://www.kaggle.com/c/criteo-display-ad-challenge"
BUCKETS = (
    "I1 to I13 are counts and become tokens by the rule of the benchmark's code: floor(ln(v)^2) for v above 2, else "
    "the whole part of v, and 0 for an empty cell. The split's own description says floor(log2(v)) for v above 2 and 1 "
    "otherwise; the vocabularies in the authors' logs are those of the code."
)

CARDS = {
    "criteo_x4": Card(
        title="Criteo, published split 8:1:1",
        source=f"{SOURCE}; {hub.page('Criteo_x4')}",
        licence=hub.LICENCE,
        fields=FIELDS_X4,
        label="Label",
        splits="published, 8:1:1 (stratified ten parts, seed 2018): 36,672,493 / 4,584,062 / 4,584,062 rows",
        checksums={
            "train.csv": "md5:4a53bb7cbc0e4ee25f9d6a73ed824b1a",
            "valid.csv": "md5:fba5428b22895016e790e2dec623cb56",
            "test.csv": "md5:cfc37da0d75c4d2d8778e76997df2976",
        },
        remarks=(
            f"The loader was tested on rows of the raw file in this form and on generated files. {hub.UNSEEN} "
            f"{BUCKETS} Setting 001 of the benchmark, the QNN-alpha paper's, has minimum count 10, setting 002 has 2."
        ),
        read=LAYOUT.read,
        min_count=10,
        random_split=False,
        origin=hub.archive("Criteo_x4"),
        access=hub.access("Criteo_x4"),
        layout=LAYOUT,
    ),
    "criteo_x1": Card(
        title="Criteo, published split 72:18:10",
        source=f"{SOURCE}, as indexed by Cheng et al. (2020); {hub.page('Criteo_x1')}",
        licence=hub.LICENCE,
        fields=FIELDS_X1,
        label="label",
        splits="published, 72:18:10: 33,003,326 / 8,250,124 / 4,587,167 rows",
        checksums={
            "train.csv": "md5:30b89c1c7213013b92df52ec44f52dc5",
            "valid.csv": "md5:f73c71fb3c4f66b6ebdfa032646bea72",
            "test.csv": "md5:2c48b26e84c04a69b948082edae46f8c",
        },
        remarks=(
            f"The loader was tested on generated files of this form. {hub.UNSEEN} The benchmark multiplies the value "
            "of I1 to I13 with a learned vector. Here every field holds tokens, so these 13 values are cut at the "
            "hundredths of the training rows (quantile:100), with 0 for an empty cell. A model so has more parameters "
            "in these fields, and its scores are not those of the benchmark's numeric fields."
        ),
        read=LAYOUT.read,
        min_count=1,
        random_split=False,
        origin=hub.archive("Criteo_x1"),
        access=hub.access("Criteo_x1"),
        layout=LAYOUT,
    ),
    "criteo-raw": Card(
        title="Criteo, raw file of the contest",
        source=SOURCE,
        licence="the terms of the competition, to be accepted on its page",
        fields=FIELDS_X4,
        label="Label",
        splits="random, 8:1:1, of 45,840,617 rows",
        checksums={"train.txt": None},
        remarks=(
            "The loader was tested on the first rows of this file (criteo-sample) and on generated files. No checksum "
            "is known, so the number of rows is checked, and the file's own checksum is part of the cache's key. "
            f"The split is not that of criteo_x4, which needs scikit-learn 0.19.1 to be drawn again. {BUCKETS}"
        ),
        read=RAW.read,
        min_count=10,
        random_split=True,
        access="The competition's page gives train.txt to people with an account who accept its rules.",
        layout=RAW,
        rows={"all": 45_840_617},
    ),
}
CARDS["criteo-sample"] = replace(
    CARDS["criteo-raw"],
    title="Criteo, 1,999 rows of the raw file",
    splits="random, 8:1:1, of 1,999 rows",
    checksums={"train.txt": "sha256:68cfc1a89d75354a7b5c2424fb039c52f733152d05f033fccb2b46287bc2cdbf"},
    remarks=f"The loader was tested on this file. It shows the format, and results on it say nothing. {BUCKETS}",
    min_count=2,
    access="It cannot be downloaded here; it is a sample of the contest's train.txt.",
    layout=None,
    rows={},
)
