"""The model gallery: every system has a card that is true to its code, its diagrams hold together, its page works."""

from __future__ import annotations

import html
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import browser
import pandas as pd
import pytest
from playwright.sync_api import Browser
from torch import nn

from ctrlib.data import DATASETS
from ctrlib.data import describe as describe_data
from ctrlib.errors import CtrlibError, SettingError
from ctrlib.lab.experiments import EXPERIMENTS, experiment_runs
from ctrlib.lab.overall import SYSTEMS, system_run
from ctrlib.layers import MLP, FieldEmbedding, FirstOrder
from ctrlib.models import MODELS, CTRModel, build_model
from ctrlib.neurons import FORMATS
from ctrlib.views import data_page, gallery, gallery_page
from ctrlib.views.diagrams import KINDS, SYMBOLS, Block, Chain, legend, parsed, svg, words
from ctrlib.views.gallery import COUNTED, FAMILIES, Card, describe
from ctrlib.views.gallery_page import OTHER_FORMS, Gallery

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = "https://github.com/someone/something"
SMALL = gallery._schema(4, 20)
NAMES = [name for name in MODELS if name not in FORMATS] + ["T9"]
CPU = {"device_name": "P", "precision": "fp32", "threads": 2}
OVERALL: dict[str, object] = {"chapter": "14_overall", "settings": {}}


@pytest.fixture(scope="module")
def shown() -> Gallery:
    """The gallery with the checkout's own records and measurements."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CTRLIB_RECORDS", raising=False)
        return Gallery({"address": ADDRESS, "branch": "next"})


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """The gallery where nothing is recorded or measured and no repository is known."""
    empty = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTRLIB_ROOT", str(empty))
        patch.setenv("CTRLIB_RECORDS", str(empty / "records"))
        patch.setattr(gallery, "parameters", lambda name: (1, 2, 3))
        patch.setattr(gallery_page, "parameters", lambda name: (1, 2, 3))
        return Gallery()


def model_of(name: str) -> CTRModel:
    return build_model(name, SMALL, **COUNTED.get(name, {}))


def card_html(gallery: Gallery, name: str) -> str:
    """The HTML of one card, up to the next."""
    whole = gallery.family(gallery_family(name)).html
    start = whole.index(f'id="model-{name.replace("&", "&amp;").replace(" ", "-")}"')
    end = whole.find('<details class="ctr-card"', start)
    return whole[start : end if end > 0 else None]


def gallery_family(name: str) -> str:
    return gallery.family_of(gallery.card_of(name))


# ---- cards -----------------------------------------------------------------------------------------------


def test_every_registered_system_has_a_card(shown: Gallery) -> None:
    names = [card.name for card in shown.cards]
    assert sorted(names) == sorted({gallery.card_of(name) for name in MODELS}), "see FAMILIES in views/gallery.py"
    whole = "".join(shown.family(family).html for family in FAMILIES)
    for name in MODELS:
        assert f'id="model-{name.replace("&", "&amp;")}"' in whole
    assert len(re.findall(r' id="([^"]*)"', whole)) == len(set(re.findall(r' id="([^"]*)"', whole)))


def test_a_system_without_a_family_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "Newcomer", MODELS["DNN"])
    with pytest.raises(CtrlibError, match=r"lists Newcomer: add it to FAMILIES"):
        gallery.cards()


@pytest.mark.parametrize("name", NAMES)
def test_docstring_has_an_equation_and_all_labels(name: str) -> None:
    for cls in (type(model_of(name)), *OTHER_FORMS.get(name, {}).values()):
        found = describe(cls)
        assert found.equations, cls
        assert all(text.endswith(".") for text in (found.parameters, found.source, found.differences)), cls
        assert not re.search(r"\b(?:Source|Parameters|Structure|Paper and code):", " ".join(found.prose)), cls
        last = list(parsed(found.structure).steps)[-2:]
        assert Block("logit") in last, cls


def test_a_docstring_that_lacks_something_is_named() -> None:
    class Silent(CTRModel):
        """Logits (B,).

        $$z = 0$$

        Parameters: none.
        """

    empty = pd.DataFrame()
    card = Card("Silent", Silent(SMALL, model_of("DNN").settings), (), empty, empty, empty, ())
    with pytest.raises(CtrlibError, match=r"docstring of Silent lacks Structure, Source, Paper and code; see"):
        _ = card.description


@pytest.mark.parametrize("name", NAMES)
def test_card_tells_what_the_code_says(shown: Gallery, name: str) -> None:
    text = card_html(shown, gallery.card_of(name))
    model = model_of(name)
    assert "<svg" in text and "\\[" in text and "<dt>Source</dt>" in text and "<dt>Paper and code</dt>" in text
    path = f"ctrlib/{type(model).__module__.removeprefix('ctrlib.').replace('.', '/')}.py"
    assert f'href="{ADDRESS}/blob/next/{path}"' in text and (ROOT / path).is_file()
    for setting in vars(model.settings):
        assert f"<code>{setting}=" in text


def test_parameters_are_counted_at_the_settings_of_the_overall_table() -> None:
    for name in ("AutoInt", "FinalMLP", "DS-MLP", "ECKD", "QNN-alpha"):
        label = gallery.DEFAULT_LABELS.get(name, name)
        listed = system_run("frappe_x1-rebuilt", label, 1).settings
        left_out = {"contexts"} if name == "FinalMLP" else set()
        assert set(listed) - set(gallery.counted_settings(name)) == left_out
        assert gallery.counted_settings(name).items() <= listed.items()
    assert gallery.counted_settings("AutoInt")["hidden_units"] == (400, 400, 400)  # AutoInt+, the default form
    assert gallery.counted_settings("DeepFM-QNN") == {} == gallery.counted_settings("T9")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "T9"])
def test_parameters_are_those_of_the_network(shown: Gallery, name: str) -> None:
    card = next(card for card in shown.cards if card.name == name)
    schemas = list(gallery.schemas().values())[: 3 if name == "DCNv2" else 2]  # the third has a large table
    for count, schema in zip(card.counts, schemas, strict=False):
        model = build_model(name, schema, **gallery.counted_settings(name))
        assert count == sum(p.numel() for p in model.parameters() if p.requires_grad)
    text = card_html(shown, name)
    assert f'data-counts="{"|".join(map(str, card.counts))}"' in text
    if name in gallery.ELSEWHERE:
        assert f"With the default settings: Frappe_x1 {card.counts[0]:,};" in text
    else:
        told = re.search(
            r"<p>With <code>([^<]*)</code>, as in the overall table on Frappe[^:]*: Frappe_x1 ([\d,]+);", text
        )
        assert ("without contexts, whose tables depend on the data:" in text) == (name == "FinalMLP")
        assert told is not None and told[2] == f"{card.counts[0]:,}"
        named = set(re.findall(r"(?:^|, )(\w+)=", told[1]))
        assert named == set(gallery.counted_settings(name)) - set(gallery.OF_OTHERS)


def test_schemas_have_the_sizes_of_the_data() -> None:
    sizes = [(schema.num_fields, schema.table_rows) for schema in gallery.schemas().values()]
    assert sizes == [(10, 5399), (7, 2736), (39, 910_747)]


def test_formulas_of_the_docstrings_give_the_counts() -> None:
    fields, ids, dim = 4, 20, 6
    d, table = fields * dim, ids * dim

    def count(name: str, **settings: object) -> int:
        return build_model(name, SMALL, embedding_dim=dim, **settings).num_parameters

    rows, layers = 3, 2
    trunk = layers * (rows * (d * d + d) + 2 * rows * d)
    qnn = {"rows": rows, "layers": layers}
    assert count("QNN-alpha", **qnn) == table + trunk + d + 1
    written = layers * (rows * (d * d // 2 + d) + 2 * rows * d)
    assert count("QNN-alpha", **qnn, mode="written", heads=2) == table + written + d + 1
    assert count("DeepFM-QNN", **qnn) == table + trunk + ids + d + 2
    cin = (fields * fields + 1) * 5 + 5 + 1
    assert count("xDeepFM-QNN", **qnn, cin_units=(5,)) == table + trunk + ids + d + 1 + cin
    for form, norm in (("released", 2 * d), ("written", 0)):
        cross = 3 * (d * d + d + norm) + 2 * d + 1
        assert count("DCNv2-QNN", **qnn, form=form) == table + trunk + cross
    mlps = (d + 1) * 8 + (d + 1) * 5
    assert count("DualMLP", hidden_units=(8,), second_units=(5,)) == table + mlps + 8 + 1 + 5 + 1
    for name, maps in {"T9": 1, "T8": 3, "T5": 2}.items():
        expected = table + 2 * maps * (d * d + d) + d + 1 + 2 * 2 * d
        assert count(name, layers=2, batch_norm=True) == expected, name
    c = 10
    assert count("T2", layers=2, compressed_width=c) == table + d * c + 2 * (c**3 + c) + c + 1


def test_results_and_speed_are_shown_with_interval_and_seeds(bare: Gallery) -> None:
    card = next(card for card in bare.cards if card.name == "DCNv2")
    scores = {"test_auc": 0.9844, "test_auc_low": 0.9838, "test_auc_high": 0.985, "seeds": 5, "failed": 1}
    results = pd.DataFrame([{"dataset": "ml-100k", "label": "DCNv2", "system": "DCNv2", **OVERALL, **scores}])
    step = {"step": 104.2, "low": 99.0, "high": 120.0, "batch": 4096, "settings": {"cross_layers": 3}}
    steps = pd.DataFrame([{"label": "DCNv2", "system": "DCNv2", "group": "overall", **step, **CPU}])
    changed = replace(card, results=results, steps=steps, chapters=("06_plug_and_play",))
    text = bare._card(changed)
    assert "DCNv2 on ml-100k: test AUC 98.44 % [98.38, 98.50], 5 seeds, 1 failed." in text
    assert "<li>Training step on 4,096 rows of Frappe, fp32, 2 threads:" in text
    assert "<li><code>cross_layers=3</code> (overall table): 104 ms [99, 120].</li>" in text
    assert 'href="../chapters/06_plug_and_play.html">6<' in text
    row = bare._row(changed, ["ml-100k"])
    assert ">104<" in row and ">98.44<" in row and ">0.06<" in row and ">5<" in row
    one = results.assign(test_auc_low=float("nan"), test_auc_high=float("nan"), seeds=1, failed=0)
    text = bare._card(replace(changed, results=one))
    assert "test AUC 98.44 %, 1 seed.<" in text and "nan" not in text + bare._row(
        replace(changed, results=one), ["ml-100k"]
    )


def test_a_result_names_its_chapter_and_its_own_settings(bare: Gallery) -> None:
    card = next(card for card in bare.cards if card.name == "DeepFM-QNN")
    row = {"dataset": "ml-100k", "label": "DeepFM-QNN.released", "system": "DeepFM-QNN", "seeds": 5, "failed": 0}
    row |= {"test_auc": 0.87, "test_auc_low": 0.86, "test_auc_high": 0.88}
    of_chapter = {"chapter": "06_plug_and_play", "settings": {"layers": 1, "batch_norm": False}}
    changed = replace(card, results=pd.DataFrame([row | of_chapter]))
    link = '<a href="../chapters/06_plug_and_play.html">chapter 6</a>'
    told = f"on ml-100k ({link}): test AUC 87.00 % [86.00, 88.00], 5 seeds, with <code>layers=1, batch_norm=off</code>."
    assert told in bare._card(changed)
    assert f">87.00* <small>{link}</small><" in bare._row(changed, ["ml-100k"])
    usual = replace(card, results=pd.DataFrame([row | OVERALL]))
    assert ">87.00<" in bare._row(usual, ["ml-100k"]) and "(<a href" not in bare._results(usual)


def test_a_step_of_the_overview_has_the_settings_of_the_parameters(bare: Gallery) -> None:
    card = next(card for card in bare.cards if card.name == "DNN")
    step = {"label": "DNN", "system": "DNN", "batch": 4096, "low": 1.0, "high": 3.0, "settings": {}, **CPU}
    rows = [step | {"group": "systems", "step": 41.0}]
    assert ">41<" not in bare._row(replace(card, steps=pd.DataFrame(rows)), [])
    rows.append(step | {"group": "overall", "step": 61.0})
    assert ">61<" in bare._row(replace(card, steps=pd.DataFrame(rows)), [])


def test_counted_parameters_are_those_of_the_recorded_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CTRLIB_RECORDS")
    compared = 0
    for row in gallery.results().query("chapter == '14_overall'").to_dict("records"):
        if row["settings"] or row["dataset"] not in (places := ["frappe_x1-rebuilt", "ml-100k"]):
            continue
        runs = experiment_runs("overall", row["dataset"]).query("label == @row['label'] and status == 'completed'")
        assert set(runs["parameters"]) == {gallery.parameters(row["system"])[places.index(row["dataset"])]}, row
        compared += 1
    assert compared > 30


def test_systems_that_the_overall_table_lacks_have_the_results_of_their_chapters(
    shown: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(gallery.ELSEWHERE) == set(MODELS) - {gallery.system_of(label) for label in SYSTEMS}
    monkeypatch.delenv("CTRLIB_RECORDS")
    found = gallery.results().set_index(["system", "label", "dataset"])
    for name, (experiment, labels) in gallery.ELSEWHERE.items():
        for label in labels:
            runs = experiment_runs(experiment, "ml-100k").query("label == @label and status == 'completed'")
            row = found.loc[(name, label, "ml-100k")]
            assert row["test_auc"] == pytest.approx(runs["test_auc"].mean()) and row["seeds"] == len(runs) > 0
            assert row["chapter"] == EXPERIMENTS[experiment].chapter
    mean, seeds = found.loc[("T9", "T9.relu", "ml-100k"), ["test_auc", "seeds"]]
    formats = card_html(shown, gallery.NEURONS)
    row = formats[formats.index('<tr id="model-T9">') :].split("</tr>")[0]
    assert re.search(rf">{100 * mean:.2f} ± [\d.]+ \({seeds:.0f}\)<", row.replace("\N{NO-BREAK SPACE}", " "))
    assert "In the table of all formats above, from <a" in formats
    for name in ("DeepFM-QNN", "T19-lifted", "QNN-alpha-ensemble"):
        assert "Not measured.</li>" not in card_html(shown, name)


def test_settings_of_runs_that_are_not_the_counted_ones_are_found() -> None:
    listed = gallery.counted_settings("GDCN")
    as_recorded = {key: list(value) if isinstance(value, tuple) else value for key, value in listed.items()}
    assert gallery.changed("GDCN", as_recorded) == {} == gallery.changed("LR", {"embedding_dim": 1})
    assert gallery.changed("GDCN", as_recorded | {"dropout": 0.0}) == {"dropout": 0.0}
    assert gallery.changed("ECKD", gallery.counted_settings("ECKD") | {"teachers": [["FM", {}]]}) == {}
    assert gallery.changed("T9", {"embedding_dim": 16, "post_activation": "relu"}) == {"post_activation": "relu"}


def test_each_speed_stands_with_its_settings(bare: Gallery) -> None:
    card = next(card for card in bare.cards if card.name == "AutoInt")
    time = {"system": "AutoInt", "batch": 4096, "low": 1.0, "high": 3.0, **CPU}
    settings: list[dict[str, object]] = [{"hidden_units": [], "scaled": True}, {"hidden_units": [400, 400]}]
    steps = pd.DataFrame(
        [
            {"label": "AutoInt", "group": "overall", "step": 2.0, "settings": settings[0], **time},
            {"label": "AutoInt+", "group": "systems", "step": 2.0, "settings": settings[1], **time},
        ]
    )
    sizes = {"A": 1, "B": 20_000}
    latencies = pd.DataFrame(
        [{"label": "AutoInt", "data": data, "parameters": n, "latency": 2.0, **time} for data, n in sizes.items()]
    )
    latencies.loc[1, "threads"] = 1
    text = bare._card(replace(card, steps=steps, latencies=latencies))
    assert "<li>AutoInt, <code>hidden_units=none, scaled=on</code> (overall table): 2 ms [1, 3].</li>" in text
    assert "<li>AutoInt+, <code>hidden_units=400×400</code>: 2 ms [1, 3].</li>" in text
    assert "at a time, fp32, 2 threads:<ul><li>A, 1 parameter: 2 ms [1, 3].</li></ul>" in text
    assert "at a time, fp32, 1 thread:<ul><li>B, 20,000 parameters: 2 ms [1, 3].</li></ul>" in text


def test_no_two_measured_speeds_of_a_card_look_alike(shown: Gallery) -> None:
    for card in shown.cards:
        told = [re.sub(r"[\d.,]+ ms .*", "", line) for line in gallery_page._speed(card).split("<li>")]
        assert len(told) == len(set(told)), card.name
    qnn = next(card for card in shown.cards if card.name == "QNN-alpha")
    if qnn.steps.empty:
        pytest.skip("no step is measured")
    assert all({"layers", "rows", "passes", "embedding_dim"} <= set(settings) for settings in qnn.steps["settings"])
    assert f"All times are of: {qnn.steps['device_name'].iloc[0]}".replace("&", "&amp;") in shown.overview().html


def test_what_is_not_measured_is_said_to_be_so(bare: Gallery) -> None:
    for name in (card.name for card in bare.cards):
        text = card_html(bare, name)
        assert "<dt>Speed</dt><dd>Not measured.</dd>" in text and ">Not measured.</li>" in text
    assert '<td class="number" data-value="">&ndash;</td>' in bare.overview().html
    assert "<a href=" not in re.sub(r'<a [^>]*href="(?:#|\.\./chapters/)', "", card_html(bare, "DeepFM"))  # no address


def test_recorded_results_are_those_of_the_overall_table(shown: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CTRLIB_RECORDS")
    found = gallery.results()
    if found.empty:
        pytest.skip("nothing is recorded")
    row = found.iloc[0]
    told = f"{row['label']} on {row['dataset']}: test AUC {100 * row['test_auc']:.2f} %".replace("&", "&amp;")
    assert told in card_html(shown, row["system"])


class Balance(HTMLParser):
    """Collect tags that are closed in the wrong order."""

    VOID = ("input", "br", "path", "rect", "circle")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)


def test_html_is_balanced_and_small(shown: Gallery) -> None:
    tables = [shown.overview(), shown.legend(), shown.parts(), shown.settings(), *map(shown.family, FAMILIES)]
    whole = "".join(table.html for table in tables)
    reader = Balance()
    reader.feed(whole)
    assert not reader.wrong and not reader.open
    assert len(whole) < 260_000  # the theme adds 30 kB, and a page has 300
    for part in re.findall(r'href="#(part-\w+)"', whole):
        assert f'id="{part}"' in whole


def test_each_data_set_has_a_card_with_all_that_is_known_of_it() -> None:
    whole = data_page.data_cards()
    reader = Balance()
    reader.feed(whole.html)
    assert not reader.wrong and not reader.open and len(whole.html) < 60_000
    parts = whole.html.split('<details class="ctr-card"')[1:]
    for part, (name, card) in zip(parts, DATASETS.items(), strict=True):
        assert f' id="{data_page.anchor(name)}"' in part and describe_data(name) in whole.text
        told = html.unescape(re.sub(r"<[^>]+>", " ", part))
        for text in (card.title, card.licence, card.splits, card.remarks, card.label, f"Fields ({len(card.fields)})"):
            assert text in told, (name, text)
        assert all(file in told and (value or "not known") in told for file, value in card.checksums.items())
        assert all(field.name in told for field in card.fields)
    assert '<a href="https://www.kaggle.com/c/avazu-ctr-prediction">' in whole.html, "without what follows the address"
    page = (ROOT / "book" / "data.md").read_text()
    assert "data_cards()" in page and 'links={"name": "card"}' in page


@pytest.mark.parametrize("name", NAMES)
def test_long_equations_are_cut_between_their_statements(name: str) -> None:
    for cls in {type(module) for module in model_of(name).modules() if type(module).__module__.startswith("ctrlib")}:
        for equation in describe(cls).equations:
            lines = gallery_page._lines(" ".join(equation.split()))
            for pair in ("{}", ("\\Big(", "\\Big)"), ("\\big(", "\\big)"), ("\\big[", "\\big]")):
                assert all(line.count(pair[0]) == line.count(pair[1]) for line in lines), lines
            joined = re.sub(r"\\quad|\s", "", "".join(lines))
            assert joined == re.sub(r"\\q?quad|\s", "", equation)
            assert len(lines) == 1 or max(map(gallery_page._width, lines)) <= 60


def test_unknown_family_names_the_nearest(bare: Gallery) -> None:
    with pytest.raises(SettingError, match=r"family 'gate'.*Did you mean 'gated'"):
        bare.family("gate")


def test_page_shows_every_family() -> None:
    page = (ROOT / "book" / "gallery.md").read_text(encoding="utf-8")
    assert re.findall(r'gallery\.family\("([^"]+)"\)', page) == list(FAMILIES)


# ---- diagrams --------------------------------------------------------------------------------------------

BLOCK_OF = {  # class of a part -> the block that stands for it
    "BilinearHeads": "bilinear form",
    "CIN": "CIN",
    "EncoderLayer": "encoder",
    "FeatureGenerator": "generator",
    "FieldNorm": "field norm",
    "FirstOrder": "first order",
    "GatedCrossNetwork": "gated cross layer",
    "GraphLayer": "graph layer",
    "GRUCell": "GRU",
    "LogarithmicNeurons": "logarithmic neurons",
    "Mask": "random mask",
    "MaskBlock": "mask",
    "MaskedCrossNetwork": "masked cross layer",
    "NeuronLayer": "quadratic layer",
    "Rotation": "rotation",
    "EulerLayer": "powers",
    "Amplifier": "amplifier",
    "FactorizedMap": "factorized layers",
}
SEVERAL = {  # block -> any of these classes
    "attention": {"FieldAttention", "PairAttention"},
    "bilinear products": {"BilinearPairs", "FmFM"},
    "cross layer": {"CrossNetwork", "RankOneCrossNetwork", "ReleasedCross", "EDCN"},
    "gate": {"FeatureGate", "FieldGate", "SqueezeExcitation", "Regulation", "FiGNN", "ECKD"},
    "MLP": {"MLP"},
}


def own_modules(model: CTRModel) -> list[nn.Module]:
    """The model and its parts, without teachers."""
    names = ("teacher.", "teachers.")
    return [m for name, m in model.named_modules() if not f"{name}.".startswith(names)]


@pytest.mark.parametrize("name", NAMES)
def test_diagram_is_true_to_the_network(name: str) -> None:
    model = model_of(name)
    blocks = list(parsed(describe(type(model)).structure).blocks())
    labels = {block.label for block in blocks}
    modules = own_modules(model)
    classes = {type(module).__name__ for module in modules}
    for cls, block in BLOCK_OF.items():
        assert (cls in classes) == (block in labels), (cls, block)
    for block, several in SEVERAL.items():
        if block == "MLP":  # blocks of factorized maps are MLPs of another kind
            plain = any(
                isinstance(m, MLP) and (len(m.linears) == 0 or type(m.linears[0]) is nn.Linear) for m in modules
            )
            assert plain == bool({"MLP", "MLP layer"} & labels)
        else:
            assert bool(several & classes) == (block in labels), block
    first = sum(isinstance(module, FirstOrder) for module in modules)
    tables = len({id(module) for module in modules if isinstance(module, FieldEmbedding)}) - first
    assert sum(block.label == "embedding" for block in blocks) == tables
    assert ("QNNTrunk" in classes) == bool({"gate rows", "QNN-alpha layers"} & labels) or name == "T19-lifted"
    pairs = {"FM", "DeepFM", "DeepFM-QNN", "PNN", "DLRM", "FwFM", "SFG", "CL4CTR", "WuKong"}
    assert (name in pairs) == ("inner products" in labels)
    assert any(hasattr(model, part) for part in ("teacher", "teachers")) == ("teacher" in labels)
    losses = {block.note for block in blocks if block.kind == "loss"}
    assert (model.settings.loss == "self-ensemble") == ("self-ensemble loss" in losses)


@pytest.mark.parametrize("name", NAMES)
def test_diagram_is_drawn_without_overlap(name: str) -> None:
    for cls in (type(model_of(name)), *OTHER_FORMS.get(name, {}).values()):
        root = ElementTree.fromstring(svg(parsed(describe(cls).structure), name))
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        title = root.find("title")
        assert root.attrib["role"] == "img" and title is not None and (title.text or "").startswith(name)
        assert width <= 560, "too wide for a card"
        boxes = [box for box in root.iter("rect") if box.attrib["class"] != "frame"]
        places = [tuple(float(box.attrib[key]) for key in ("x", "y", "width", "height")) for box in boxes]
        places += [(float(c.attrib["cx"]) - 9, float(c.attrib["cy"]) - 9, 18.0, 18.0) for c in root.iter("circle")]
        for x, y, w, h in places:
            assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
        for number, (x, y, w, h) in enumerate(places):
            for other_x, other_y, other_w, other_h in places[:number]:
                apart = x >= other_x + other_w or other_x >= x + w or y >= other_y + other_h or other_y >= y + h
                assert apart, (places[number], (other_x, other_y))


def test_a_kind_of_block_has_one_look_everywhere() -> None:
    looks: dict[str, Counter[str]] = {}
    for name in NAMES:
        drawn = ElementTree.fromstring(svg(parsed(describe(type(model_of(name))).structure), name))
        for box in [*drawn.iter("rect"), *drawn.iter("circle")]:
            kind = box.attrib["class"].split()[0]
            if kind.startswith("of-"):
                shape = box.tag + ("" if kind in ("of-end", "of-gate") else box.attrib.get("rx", ""))
                looks.setdefault(kind, Counter())[shape] += 1
    assert all(len(shapes) == 1 for shapes in looks.values()), looks
    assert {f"of-{kind}" for kind in legend()} >= set(looks)
    style = (ROOT / "book" / "assets" / "gallery.css").read_text()
    plain = {"map", "teacher", "loss", "join", "end"}
    assert all(f".ctr-net .of-{kind} {{" in style for kind in KINDS if kind not in plain)


def test_chain_branches_frames_and_remarks_are_read() -> None:
    chain = parsed("ids -> (first order | {L layers: cross layer [rank one] -> dropout} | pass) -> sum -> logit")
    assert [block.label for block in chain.blocks()] == ["ids", "first order", "cross layer", "dropout", "sum", "logit"]
    assert list(chain.blocks())[2].note == "rank one"
    told = words(chain)
    assert "side by side: first order / L layers of: cross layer (rank one), then dropout; / unchanged" in told
    drawn = svg(parsed("ids -> (embedding -> MLP | teacher -> distillation loss) -> logit"), "x")
    assert drawn.count('class="of-teacher training"') == 1 and 'class="training"' in drawn
    assert set(SYMBOLS) == set(KINDS["join"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ids -> embeding -> logit", "block of a diagram 'embeding'.*Did you mean 'embedding'"),
        ("ids -> (MLP | CIN -> logit", r"needs \) in place of the end"),
        ("ids -> MLP) -> logit", r"cannot go on with '\)'"),
        ("ids -> {MLP} -> logit", "frame needs a label and a colon"),
        ("ids -> -> logit", "Unknown block of a diagram '->'"),
        ("ids ->", "needs a block in place of the end"),
    ],
)
def test_a_wrong_diagram_is_refused(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        parsed(text)


def test_an_empty_chain_passes_on() -> None:
    assert parsed("pass") == Chain(()) and words(Chain(())) == "unchanged"


# ---- in a browser ----------------------------------------------------------------------------------------


@pytest.fixture
def chromium() -> Iterator[Browser]:
    path = browser.find_browser() or pytest.skip("no Chromium found; on Debian: apt-get install chromium")
    with browser.start(path) as running:
        yield running


@pytest.fixture
def page(tmp_path: Path, bare: Gallery) -> Path:
    """A folder with the gallery's page, without the theme around it."""
    for name in ("book.css", "gallery.css", "gallery.js", "tables.js"):
        shutil.copy(ROOT / "book" / "assets" / name, tmp_path)
    sections = "".join(f"<section><h2>{name}</h2>{bare.family(name).html}</section>" for name in FAMILIES)
    (tmp_path / "page.html").write_text(
        "<!doctype html><html><head><style>:root { --pst-color-background: #fff; }"
        ':root[data-theme="dark"] { --pst-color-background: #121212; }</style>'
        '<script>const dark = matchMedia("(prefers-color-scheme: dark)").matches;'
        'document.documentElement.dataset.theme = dark ? "dark" : "light";</script>'
        '<meta charset="utf-8"><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="book.css"><link rel="stylesheet" href="gallery.css">'
        '<script defer src="tables.js"></script><script defer src="gallery.js"></script>'
        f"</head><body>{bare.overview().html}{bare.legend().html}{sections}</body></html>"
    )
    return tmp_path


def test_schema_family_and_address_are_followed(chromium: Browser, page: Path) -> None:
    with (
        browser.serve(page) as address,
        browser.opened(chromium, f"{address}/page.html#model-Wide&Deep", height=900) as (tab, seen),
    ):
        assert tab.locator("details.ctr-card[open]").count() == 1
        card = tab.locator("[id='model-Wide&Deep']")
        assert card.evaluate("card => card.open") and card.is_visible()
        row = tab.locator(".ctr-table tbody tr").first.locator("td")
        assert row.nth(2).inner_text() == "1"
        tab.locator(".ctr-controls select").select_option("2")
        assert row.nth(2).inner_text() == "3" and row.nth(2).get_attribute("data-value") == "3"
        assert "3 parameters" in card.locator("summary").inner_text()
        tab.get_by_role("button", name="attention", exact=True).press("Enter")
        assert tab.get_by_role("button", name="attention", exact=True).get_attribute("aria-pressed") == "true"
        assert [h.inner_text() for h in tab.locator("h2:visible").all()] == ["attention"]
        assert tab.locator(".ctr-table tbody tr:visible").count() == len(FAMILIES["attention"])
        assert tab.locator(".ctr-controls [role=status]").inner_text() == f"3 of {len(bare_rows(tab))} systems"
        tab.evaluate("location.hash = '#model-T12'")  # in a family that is hidden, in a folded table, in a card
        tab.wait_for_function("document.getElementById('model-T12').offsetHeight > 0")
        assert tab.get_by_role("button", name="all", exact=True).get_attribute("aria-pressed") == "true"
        assert seen.complaints == [] and seen.outside == []


def test_an_address_opens_the_card_of_a_data_set(chromium: Browser, page: Path) -> None:
    name = data_page.anchor("ml-100k")
    text = (page / "page.html").read_text()
    body = f'<p><a href="#{name}">ml-100k</a></p>{data_page.data_cards().html}'
    (page / "data.html").write_text(text[: text.index("<body>")] + f"<body>{body}</body></html>")
    with (
        browser.serve(page) as address,
        browser.opened(chromium, f"{address}/data.html", width=390, height=900) as (tab, seen),
    ):
        assert tab.locator("details[open]").count() == 0
        for _ in range(2):  # the second time the address is the same already
            tab.locator("p > a").click()
            tab.wait_for_function(f"document.getElementById('{name}').open")
            assert tab.locator("details[open]").count() == 1
            tab.locator(f"#{name} summary").click()
        tab.evaluate("document.querySelectorAll('details').forEach(box => { box.open = true; })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        assert seen.complaints == []


def bare_rows(tab: object) -> list[object]:
    return tab.locator(".ctr-table tbody tr").all()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_cards_fit_a_phone_and_blocks_have_colours(chromium: Browser, page: Path, dark: bool) -> None:
    with (
        browser.serve(page) as address,
        browser.opened(chromium, f"{address}/page.html", dark=dark, width=390, height=900) as (tab, seen),
    ):
        tab.evaluate("document.querySelectorAll('details').forEach(box => { box.open = true; })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        fills = "kind => getComputedStyle(document.querySelector(`.ctr-net .of-${kind}`)).fill"
        assert len({tab.evaluate(fills, kind) for kind in ("table", "mlp", "cross", "gate", "attention")}) == 5
        assert seen.complaints == []
