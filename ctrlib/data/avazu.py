"""Avazu's mobile advertisements: the two prepared splits of the benchmark, and the raw file of the contest."""

from __future__ import annotations

from dataclasses import replace

from ctrlib.data import hub
from ctrlib.data.cards import Card
from ctrlib.data.layout import Derived, Layout, hour_of_day, weekday, weekend
from ctrlib.data.schema import Field

FIELDS_X1 = tuple(Field(f"feat_{n}") for n in range(1, 23))
SITE = ("C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category")
DEVICE = ("device_id", "device_ip", "device_model", "device_type", "device_conn_type")
FIELDS_X4 = tuple(
    Field(name) for name in ("hour", "weekday", "weekend", *SITE, *DEVICE, *(f"C{n}" for n in range(14, 22)))
)
TIMES = {
    "hour": Derived("hour", hour_of_day),
    "weekday": Derived("hour", weekday),
    "weekend": Derived("hour", weekend),
}

LAYOUT_X1 = Layout(hub.SPLIT_FILES)
LAYOUT_X4 = Layout(hub.SPLIT_FILES, derived=TIMES)
RAW = Layout({"all": "train.csv"}, derived=TIMES)

SOURCE = "Kaggle competition avazu-ctr-prediction (2014), https://www.kaggle.com/c/avazu-ctr-prediction"
TIME = "The column hour (YYMMDDHH) becomes hour of the day, weekday and weekend; the column id is left out."

CARDS = {
    "avazu_x4": Card(
        title="Avazu, published split 8:1:1",
        source=f"{SOURCE}; {hub.page('Avazu_x4')}",
        licence=hub.LICENCE,
        fields=FIELDS_X4,
        label="click",
        splits="published, 8:1:1 (stratified ten parts, seed 2018): 32,343,172 / 4,042,897 / 4,042,898 rows",
        checksums={
            "train.csv": "md5:de3a27264cdabf66adf09df82328ccaa",
            "valid.csv": "md5:33232931d84d6452d3f956e936cab2c9",
            "test.csv": "md5:3ebb774a9ca74d05919b84a3d402986d",
        },
        remarks=(
            f"The loader was tested on rows of the raw file in this form. {hub.UNSEEN} {TIME} "
            "Setting 001 of the benchmark has minimum count 2, and setting 002 has 1. Neither paper uses this split."
        ),
        read=LAYOUT_X4.read,
        min_count=2,
        random_split=False,
        origin=hub.archive("Avazu_x4"),
        access=hub.access("Avazu_x4"),
        layout=LAYOUT_X4,
    ),
    "avazu_x1": Card(
        title="Avazu, published split 7:1:2",
        source=f"{SOURCE}, as indexed by Cheng et al. (2020); {hub.page('Avazu_x1')}",
        licence=hub.LICENCE,
        fields=FIELDS_X1,
        label="label",
        splits="published, 7:1:2: 28,300,276 / 4,042,897 / 8,085,794 rows",
        checksums={
            "train.csv": "md5:f1114a07aea9e996842c71648e0f6395",
            "valid.csv": "md5:d9568f246357d156c4b8030fadb8b623",
            "test.csv": "md5:9e2fe9c48705c9315ae7a0953eb57acf",
        },
        remarks=(
            f"The loader was tested on generated files of this form. {hub.UNSEEN} The shares of clicks are 17.50, "
            "16.79 and 15.25 % in train, valid and test, so the split is not a random one."
        ),
        read=LAYOUT_X1.read,
        min_count=1,
        random_split=False,
        origin=hub.archive("Avazu_x1"),
        access=hub.access("Avazu_x1"),
        layout=LAYOUT_X1,
    ),
    "avazu-raw": Card(
        title="Avazu, raw file of the contest",
        source=SOURCE,
        licence="the terms of the competition, to be accepted on its page",
        fields=FIELDS_X4,
        label="click",
        splits="random, 8:1:1, of 40,428,967 rows",
        checksums={"train.csv": None},
        remarks=(
            "The loader was tested on the first rows of this file (avazu-sample). No checksum is known, so the number "
            "of rows is checked, and the file's own checksum is part of the cache's key. The split is not that of "
            f"avazu_x4. {TIME}"
        ),
        read=RAW.read,
        min_count=2,
        random_split=True,
        access=(
            "The competition's page gives train.csv, packed as train.gz, to people with an account who accept its "
            "rules."
        ),
        layout=RAW,
        rows={"all": 40_428_967},
    ),
}
CARDS["avazu-sample"] = replace(
    CARDS["avazu-raw"],
    title="Avazu, 2,994 rows of the raw file",
    splits="random, 8:1:1, of 2,994 rows",
    checksums={"train.csv": "sha256:e7ff83fa123e33eaf199c80e3b7044dfaec6ef1b815c64714e6e93ed34d96387"},
    remarks=(
        f"The loader was tested on this file. All its rows are of one hour, so it shows the format and results on it "
        f"say nothing. {TIME}"
    ),
    access="It cannot be downloaded here; it is a sample of the contest's train.csv.",
    layout=None,
    rows={},
)
