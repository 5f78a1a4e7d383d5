"""KKBox_x1: does a user listen to a song again within a month?"""

from __future__ import annotations

from ctrlib.data import hub
from ctrlib.data.cards import Card
from ctrlib.data.layout import Derived, Layout, age_group, country_code
from ctrlib.data.schema import Field

WHERE_HEARD = ("source_system_tab", "source_screen_name", "source_type")
FIELDS = (
    *(Field(name) for name in ("msno", "song_id", *WHERE_HEARD, "city", "gender", "registered_via", "language")),
    Field("genre_ids", kind="sequence", max_len=3),
    Field("artist_name", kind="sequence", max_len=3),
    Field("isrc"),
    Field("bd"),
)
LAYOUT = Layout(hub.SPLIT_FILES, derived={"isrc": Derived("isrc", country_code), "bd": Derived("bd", age_group)})

CARDS = {
    "kkbox_x1": Card(
        title="KKBox, published split 8:1:1",
        source=(
            "Kaggle competition kkbox-music-recommendation-challenge (WSDM Cup 2018), "
            f"https://www.kaggle.com/c/kkbox-music-recommendation-challenge; {hub.page('KKBox_x1')}"
        ),
        licence=hub.LICENCE,
        fields=FIELDS,
        label="label",
        splits="published, 8:1:1: 5,901,932 / 737,743 / 737,743 rows",
        checksums={
            "train.csv": "md5:195b1ae8fc2d9267d7c8656c07ea1304",
            "valid.csv": "md5:398e97ac139611a09bd61a58e4240a3e",
            "test.csv": "md5:8c5f7add05a6f5258b6b3bcc00ba640b",
        },
        remarks=(
            f"The loader was tested on generated files of this form. {hub.UNSEEN} genre_ids and artist_name are split "
            "at blanks and cut after 3 tokens, as the benchmark's version 1.0.2 does; its version 2.0.1 builds the "
            "vocabulary from whole cells and looks up single words. isrc is cut to its country, the first two letters. "
            "bd, an age, becomes a decade from 1 to 7, and is missing below 1 and above 95."
        ),
        read=LAYOUT.read,
        min_count=10,
        random_split=False,
        origin=hub.archive("KKBox_x1"),
        access=hub.access("KKBox_x1"),
        layout=LAYOUT,
    ),
}
