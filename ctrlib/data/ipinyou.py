"""iPinYou_x1: clicks in real-time bidding. The published split has no validation file, so there are two forms."""

from __future__ import annotations

from dataclasses import replace

from ctrlib.data import hub
from ctrlib.data.cards import Card
from ctrlib.data.layout import Layout
from ctrlib.data.schema import Field

PLACE = ("weekday", "hour", "IP", "region", "city", "adexchange", "domain")
SLOT = ("slotid", "slotwidth", "slotheight", "slotvisibility", "slotformat")
FIELDS = tuple(Field(name) for name in (*PLACE, *SLOT, "creative", "advertiser", "useragent", "slotprice"))
LAYOUT = Layout({"train": "train.csv", "test": "test.csv"})
LAYOUT_RELEASED = Layout({"train": "train.csv", "valid": "test.csv", "test": "test.csv"})

CARDS = {
    "ipinyou_x1": Card(
        title="iPinYou, validation rows cut from the training rows",
        source=f"iPinYou bidding contest (2013), https://contest.ipinyou.com; {hub.page('iPinYou_x1')}",
        licence=hub.LICENCE,
        fields=FIELDS,
        label="click",
        splits=(
            "train and test published, 15,395,258 / 4,100,716 rows; a tenth of the training rows, drawn with the split "
            "seed, is the validation split"
        ),
        checksums={
            "train.csv": "md5:9dd8979d265ab1ed7662ffd49fd73247",
            "test.csv": "md5:a94374868687794ff8c0c4d0b124a400",
        },
        remarks=(
            f"The loader was tested on generated files of this form. {hub.UNSEEN} Test rows play no part in the choice "
            "of an epoch or a setting here, unlike in ipinyou_x1-released, so the two are never compared."
        ),
        read=LAYOUT.read,
        min_count=2,
        random_split=False,
        origin=hub.archive("iPinYou_x1"),
        access=hub.access("iPinYou_x1"),
        cut_valid=True,
        layout=LAYOUT,
    ),
}
CARDS["ipinyou_x1-released"] = replace(
    CARDS["ipinyou_x1"],
    title="iPinYou, validation rows are the test rows, as released",
    splits="published: 15,395,258 training rows; 4,100,716 test rows, which are the validation rows too",
    remarks=(
        f"The loader was tested on generated files of this form. {hub.UNSEEN} The QNN-alpha paper's settings name "
        "test.csv as the validation file too, so epoch and settings are chosen on the test rows and test scores are "
        "too high. It is here for comparison with the paper alone. The files are those of ipinyou_x1, in its folder."
    ),
    read=LAYOUT_RELEASED.read,
    cut_valid=False,
    layout=LAYOUT_RELEASED,
    folder="ipinyou_x1",
)
