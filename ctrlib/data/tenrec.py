"""Tenrec_x1: clicks on videos, with ten columns of history. Nobody publishes the prepared files."""

from __future__ import annotations

from ctrlib.data import hub
from ctrlib.data.cards import Card
from ctrlib.data.layout import Layout
from ctrlib.data.schema import Field

HISTORY = tuple(f"hist_{n}" for n in range(1, 11))
FIELDS = tuple(Field(name) for name in ("user_id", "item_id", "video_category", "gender", "age", *HISTORY))
LAYOUT = Layout(hub.SPLIT_FILES)

CARDS = {
    "tenrec_x1": Card(
        title="Tenrec, split of the QNN-alpha paper",
        source=(
            "Yuan et al. (2022), Tenrec: A Large-scale Multipurpose Benchmark Dataset for Recommender Systems; "
            "https://github.com/yuangh-x/2022-NIPS-Tenrec"
        ),
        licence="none stated with the split; the data set's page has its own terms, to be accepted there",
        fields=FIELDS,
        label="click",
        splits="8:1:1, not published: 96,273,844 / 12,034,231 / 12,034,231 rows",
        checksums=dict.fromkeys(hub.SPLIT_FILES.values()),
        remarks=(
            "The loader was tested on generated files of this form. No checksum is known, so the number of rows is "
            "checked, and the files' own checksums are part of the cache's key. The rows of the three files cannot be "
            "told from those of another split with the same numbers. The ten history columns have tables of their own."
        ),
        read=LAYOUT.read,
        min_count=10,
        random_split=False,
        access=(
            "The split is not public. The raw data need an account on the data set's page. A person who has train.csv, "
            "valid.csv and test.csv, with a header line and the columns of this card, can load them."
        ),
        layout=LAYOUT,
        rows={"train": 96_273_844, "valid": 12_034_231, "test": 12_034_231},
    ),
}
