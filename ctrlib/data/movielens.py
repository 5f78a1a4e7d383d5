"""MovieLens-1M and -100K under the seven fields of paper A: is a rated movie liked? And the tags of paper B.

Ratings of 3 are dropped and a rating above 3 is a click. The rule is inferred: the paper's 739,012 rows are
the ratings of MovieLens-1M other than 3. The split 8:1:1 is drawn at random with `split_seed`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import pandas as pd

from ctrlib.data import hub
from ctrlib.data.cards import Card, Frames
from ctrlib.data.checks import check_columns, read_numbers
from ctrlib.data.layout import Layout
from ctrlib.data.origins import Archive, Wheel
from ctrlib.data.read import parse, read_text
from ctrlib.data.schema import Field

LABEL = "click"
PEOPLE = (Field("user"), Field("gender"), Field("age"), Field("occupation"))
FIELDS_1M = (
    *PEOPLE,
    Field("movie"),
    Field("release_year", kind="numeric", buckets="decade"),
    Field("genres", kind="sequence", max_len=5, splitter="|"),
)
FIELDS_100K = (
    *PEOPLE,
    Field("movie"),
    Field("release_year"),
    Field("genres", kind="sequence", max_len=5, splitter=" "),
)
FIELDS_LATEST = (Field("user_id"), Field("item_id"), Field("tag_id"))
LAYOUT_LATEST = Layout(hub.SPLIT_FILES)


def read_1m(files: Mapping[str, Path]) -> Frames:
    """Read ratings.dat, users.dat and movies.dat, whose cells are separated by '::'."""
    ratings = _read_dat(files["ratings.dat"], ("user", "movie", "rating", "time"))
    users = _read_dat(files["users.dat"], ("user", "gender", "age", "occupation", "zip"))
    movies = _read_dat(files["movies.dat"], ("movie", "title", "genres"))
    years = movies["title"].str.extract(r"\((\d{4})\)\s*$", expand=False)
    return {"all": join(ratings, users, movies.assign(release_year=years), str(files["ratings.dat"]))}


def read_100k(files: Mapping[str, Path]) -> Frames:
    """Read ml-100k.inter, .user and .item: tables separated by tabs whose header names a type per column."""
    ratings, users, movies = (_read_typed(files[f"ml-100k.{kind}"]) for kind in ("inter", "user", "item"))
    names = {"user_id": "user", "item_id": "movie", "class": "genres"}
    ratings, users, movies = (table.rename(columns=names) for table in (ratings, users, movies))
    return {"all": join(ratings, users, movies, str(files["ml-100k.inter"]))}


def join(ratings: pd.DataFrame, users: pd.DataFrame, movies: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return the ratings other than 3, in their order, with label and fields."""
    check_columns(ratings, ["user", "movie", "rating"], where)
    check_columns(users, [field.name for field in PEOPLE], f"users of {where}")
    check_columns(movies, ["movie", "release_year", "genres"], f"movies of {where}")
    rating = pd.Series(read_numbers(ratings["rating"], where), index=ratings.index)
    kept = ratings.loc[rating != 3]
    frame = kept[["user", "movie"]].assign(**{LABEL: (rating[rating != 3] > 3).astype(int)})
    for key, table in (("user", users), ("movie", movies)):
        table = table.drop_duplicates(key).set_index(key)
        for column in table.columns.intersection(["gender", "age", "occupation", "release_year", "genres"]):
            frame[column] = frame[key].map(table[column])
    return frame


def _read_dat(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    # pandas is fast with separators of one character only, and titles hold single colons and quotation marks.
    text = path.read_text(encoding="latin-1").replace("::", "\t")
    return parse(StringIO(text), str(path), sep="\t", names=list(columns), quoting=csv.QUOTE_NONE)


def _read_typed(path: Path) -> pd.DataFrame:
    table = read_text(path, "\t")
    return table.set_axis([str(column).partition(":")[0] for column in table.columns], axis=1)


SOURCE = (
    "GroupLens; Harper and Konstan (2015), The MovieLens Datasets: History and Context; "
    "https://grouplens.org/datasets/movielens/"
)
LICENCE = "research use with acknowledgement and citation; no redistribution and no commercial use without permission"
RELEASE = (
    "The release year is taken from the title and bucketed by decade, which gives 10 distinct values; the "
    "paper's log has 8, by a rule that is not published, so the row counts of this field differ."
)

CARDS = {
    "ml-100k": Card(
        title="MovieLens-100K",
        source=SOURCE + "100k/, as example files in the wheel of RecBole 1.2.1",
        licence=LICENCE,
        fields=FIELDS_100K,
        label=LABEL,
        splits="random, 8:1:1: 58,284 / 7,285 / 7,286 of 72,855 ratings other than 3",
        checksums={
            "ml-100k.inter": "sha256:4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
            "ml-100k.user": "sha256:4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
            "ml-100k.item": "sha256:51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
        },
        remarks=(
            "The default data set. The loader was tested on these files. It follows the seven fields of "
            "the paper's ML-1M; age and release year are kept as they are, also the two years that the "
            "files give as 'V' and 'unkonwn'."
        ),
        read=read_100k,
        min_count=1,
        random_split=True,
        origin=Wheel("recbole==1.2.1", "sha256:9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"),
    ),
    "ml-1m": Card(
        title="MovieLens-1M",
        source=SOURCE + "1m/",
        licence=LICENCE,
        fields=FIELDS_1M,
        label=LABEL,
        splits="random, 8:1:1: 591,209 / 73,901 / 73,902 of 739,012 ratings other than 3",
        checksums={
            "ratings.dat": "sha256:506d64ca44484487c11dc2d9a28de5c54948213e6b96285e298afe28d6ea4e0f",
            "users.dat": "sha256:1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3",
            "movies.dat": "sha256:0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9",
        },
        remarks=(
            "The loader was tested on the whole users.dat and movies.dat and on half of ratings.dat "
            "(ml-1m-part); it has not met the whole ratings.dat (1,000,209 rows), whose checksum is a "
            f"published one. {RELEASE}"
        ),
        read=read_1m,
        min_count=1,
        random_split=True,
        origin=Archive(
            "https://files.grouplens.org/datasets/movielens/ml-1m.zip", "md5:c4d9eecfca2ab87c1945afe126590906"
        ),
    ),
    "ml-1m-part": Card(
        title="MovieLens-1M, users 1 to 2,999",
        source=SOURCE + "1m/",
        licence=LICENCE,
        fields=FIELDS_1M,
        label=LABEL,
        splits="random, 8:1:1, of the ratings other than 3 among 487,650",
        checksums={
            "ratings.dat": "sha256:1273c4edfe3c0ff9e3a0a0d55819faeb947da0ad7df3927333b51ebefbeedc3d",
            "users.dat": "sha256:1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3",
            "movies.dat": "sha256:0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9",
        },
        remarks=(
            "The loader was tested on these files. About half of MovieLens-1M, for runs of middle size: "
            "its figures are not comparable with the paper's. It cannot be downloaded."
        ),
        read=read_1m,
        min_count=1,
        random_split=True,
    ),
    "movielenslatest_x1": Card(
        title="MovieLens tags, published split 7:2:1",
        source=f"GroupLens, MovieLens; tags indexed by Cheng et al. (2020); {hub.page('MovielensLatest_x1')}",
        licence=LICENCE,
        fields=FIELDS_LATEST,
        label="label",
        splits="published, 7:2:1: 1,404,801 / 401,372 / 200,686 rows",
        checksums={
            "train.csv": "md5:efc8bceeaa0e895d566470fc99f3f271",
            "valid.csv": "md5:e1930223a5026e910ed5a48687de8af1",
            "test.csv": "md5:54e8c6baff2e059fe067fb9b69e692d0",
        },
        remarks=(
            f"The loader was tested on generated files of this form. {hub.UNSEEN} The label says whether a user gave a "
            "film this tag; two sampled negatives stand beside each of 668,953 positives."
        ),
        read=LAYOUT_LATEST.read,
        min_count=1,
        random_split=False,
        origin=hub.archive("MovielensLatest_x1"),
        access=hub.access("MovielensLatest_x1"),
    ),
}
