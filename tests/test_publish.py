"""What surrounds the pages of a published book: links, redirects, sitemap, social card, workflows, citation."""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ElementTree
from html import unescape
from pathlib import Path

import pytest
import yaml

import ctrlib
from ctrlib.book import builder, pages, publish
from ctrlib.errors import SettingError

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = "https://someone.github.io/something"
PAGE = "<html><head><title>A &amp; B</title></head><body id='top'>{}</body></html>"


def site(folder: Path, **bodies: str) -> Path:
    """Write pages (name without .html -> body; two underscores stand for a slash) and return their folder."""
    html = folder / "html"
    for name, body in bodies.items():
        path = html / f"{name.replace('__', '/')}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGE.format(body))
    return html


# ---- links -----------------------------------------------------------------------------------------------


def test_links_to_missing_files_and_anchors_are_found(tmp_path: Path) -> None:
    body = """<a href="b.html">1</a> <a href="b.html#here">2</a> <a href="#top">3</a> <a href="https://x.org/y">4</a>
    <a href="../index.html?q=1#top">5</a> <a href="mailto:a@b.c">6</a> <a href="b%20c.html">7</a> <a href="..">8</a>
    <a href="b.html#paper=X&amp;verdict=undecided">9</a>"""
    html = site(tmp_path, index="", a__a=body, a__b="<a name='here'></a>")
    (html / "a" / "b c.html").write_text("")
    assert pages.broken_links(html) == []
    broken = '<a href="gone.html">1</a> <a href="b.html#gone">2</a> <img src="x.png"> <a href="../../x">3</a>'
    site(tmp_path, a__a=broken)
    found = pages.broken_links(html)
    assert len(found) == 4 and all(line.startswith("a/a.html links to ") for line in found)
    assert "b.html#gone, which has no such anchor" in found[1] and "x.png, which is not there" in found[2]


def test_a_broken_link_fails_the_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html = tmp_path / "_build" / "html"
    html.mkdir(parents=True)
    (tmp_path / "_config.yml").write_text("{}")
    (html / "index.html").write_text(PAGE.format('<a href="gone.html">x</a>'))
    assert builder.check(tmp_path) == 1
    assert "index.html links to gone.html, which is not there" in capsys.readouterr().err


# ---- redirects -------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CTRLIB_ROOT", str(tmp_path))
    (tmp_path / "book").mkdir()
    return tmp_path / "book" / "redirects.toml"


def test_a_page_that_moved_leads_to_the_new_one(tmp_path: Path, manifest: Path) -> None:
    manifest.write_text(
        'published = ["old/a.html"]\n[redirects]\n"old/a.html" = "new/b.html#top"\n"c.html" = "new/b.html"'
    )
    html = site(tmp_path, index="", new__b="")
    assert publish.finish(html, "") == []
    text = (html / "old" / "a.html").read_text()
    assert 'content="0; url=../new/b.html#top"' in text and '<link rel="canonical" href="../new/b.html#top">' in text
    assert pages.broken_links(html) == []
    assert publish.finish(site(tmp_path / "other", new__b=""), ADDRESS) == []
    text = (tmp_path / "other" / "html" / "old" / "a.html").read_text()
    assert f'<link rel="canonical" href="{ADDRESS}/new/b.html#top">' in text
    assert "old/a.html" not in (tmp_path / "other" / "html" / "sitemap.xml").read_text()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('published = ["gone.html"]\n[redirects]', "gone.html was published and is gone"),
        ('published = []\n[redirects]\n"a.html" = "gone.html"', "which is no page"),
        ('published = []\n[redirects]\n"index.html" = "index.html"', "and is a page too"),
    ],
)
def test_a_page_does_not_vanish(text: str, problem: str, tmp_path: Path, manifest: Path) -> None:
    manifest.write_text(text)
    found = publish.finish(site(tmp_path, index=""), "")
    assert len(found) == 1 and problem in found[0]


@pytest.mark.parametrize("text", ["published = 1", "x", 'published = []\n[redirects]\n[more]\na = "b"'])
def test_a_manifest_of_another_form_is_refused(text: str, manifest: Path) -> None:
    manifest.write_text(text)
    with pytest.raises(SettingError, match=r"redirects\.toml"):
        publish.load_manifest()


def test_every_page_of_the_book_is_listed_and_every_listed_page_is_there_or_redirected() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    names = [toc["root"], *re.findall(r"file: (\S+)", (ROOT / "_toc.yml").read_text())]
    now = {"index.html", *(f"{name}.html" for name in names)}
    listed = publish.load_manifest(ROOT / "book" / "redirects.toml")
    assert now <= set(listed.published), "add new pages to `published` in book/redirects.toml"
    assert publish.lost(listed, sorted(now)) == []
    assert {new.split("#")[0] for new in listed.redirects.values()} <= now


# ---- the address -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("https://github.com/Someone/Something", "https://someone.github.io/Something"),
        ("https://github.com/someone/someone.github.io", "https://someone.github.io"),
        ("https://example.org/someone/something", ""),
        ("", ""),
    ],
)
def test_the_address_follows_from_the_repository(
    repository: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CTRLIB_SITE", raising=False)
    assert publish.site_address(repository) == expected
    monkeypatch.setenv("CTRLIB_SITE", "https://book.example/")
    assert publish.site_address(repository) == "https://book.example"


def test_the_configuration_names_the_address_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTRLIB_ROOT", str(ROOT))
    monkeypatch.setenv("CTRLIB_REPOSITORY", "https://github.com/someone/something")
    assert builder.configuration()["html"]["baseurl"] == f"{ADDRESS}/"
    monkeypatch.delenv("CTRLIB_REPOSITORY")
    monkeypatch.setattr("ctrlib.repository._origin", lambda: "")
    assert "baseurl" not in builder.configuration()["html"]


def test_without_an_address_no_page_names_one(tmp_path: Path, manifest: Path) -> None:
    html = site(tmp_path, index="")
    assert publish.finish(html, "") == []
    assert [path.name for path in html.iterdir()] == ["index.html"] and "og:" not in (html / "index.html").read_text()


def test_with_an_address_pages_have_a_card_and_the_sitemap_lists_them(tmp_path: Path, manifest: Path) -> None:
    html = site(tmp_path, index="", a__b="", search="", _static__theme="")
    for _ in range(2):  # a second time changes nothing
        assert publish.finish(html, ADDRESS) == []
    text = (html / "a" / "b.html").read_text()
    assert text.count("og:title") == 1 and '<meta property="og:title" content="A &amp; B">' in text
    assert f'content="{ADDRESS}/a/b.html"' in text and f'content="{ADDRESS}/_static/social-card.png"' in text
    assert pages.external_loads(text) == [], "a card names addresses and loads none"
    found = [element.text for element in ElementTree.parse(html / "sitemap.xml").iter() if element.text]
    assert [address.strip() for address in found if address.strip()] == [f"{ADDRESS}/a/b.html", f"{ADDRESS}/index.html"]
    assert f"Sitemap: {ADDRESS}/sitemap.xml" in (html / "robots.txt").read_text()


def test_the_front_door_is_a_whole_page_that_leads_on(tmp_path: Path, manifest: Path) -> None:
    for address in ("", ADDRESS):
        html = site(tmp_path / f"at{len(address)}", book__index="<article><p>A</p></article>")
        bare = '<meta http-equiv="Refresh" content="0; url=book/index.html" />'
        (html / "index.html").write_text(bare)  # as the renderer leaves it
        for _ in range(2):  # a second time changes nothing
            assert publish.finish(html, address) == []
        text = (html / "index.html").read_text()
        canonical = f"{ADDRESS}/book/index.html" if address else "book/index.html"
        assert f'<link rel="canonical" href="{canonical}">' in text and text.count("<head>") == 1
        assert '<meta http-equiv="refresh" content="0; url=book/index.html">' in text
        assert '<a href="book/index.html">A &amp; B</a>' in text and "<title>A &amp; B</title>" in text
        assert f'<meta name="description" content="{publish.CARD_TEXT}">' in text
        assert pages.broken_links(html) == [] and pages.external_loads(text) == []
        assert text.count('og:image"') == text.count("og:title") == bool(address)
        if address:
            assert f'<meta property="og:url" content="{canonical}">' in text
            listed = (html / "sitemap.xml").read_text()
            assert listed.count("<loc>") == 1 and canonical in listed


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<p>Nav of the theme, which is long enough to be taken for a first paragraph.</p>", publish.CARD_TEXT),
        ("<article><p>Short.</p></article>", publish.CARD_TEXT),
        ('<article><p>A <span class="math notranslate">x</span> ' + "word " * 20 + "</p></article>", publish.CARD_TEXT),
        (
            "<article><p>Rows &amp; <em>columns</em>\n" + "of it " * 10 + "</p></article>",
            "Rows & columns" + " of it" * 10,
        ),
        ("<article><p>" + "many words " * 50 + "</p></article>", "many words " * 18 + "…"),
    ],
)
def test_a_page_is_described_by_its_first_paragraph(body: str, expected: str, tmp_path: Path, manifest: Path) -> None:
    html = site(tmp_path, a__b=body)
    assert publish.description_of(PAGE.format(body)) == expected
    assert publish.finish(html, ADDRESS) == []
    told = re.search('property="og:description" content="(.*?)"', (html / "a" / "b.html").read_text())
    assert told and unescape(told[1]) == expected


def test_a_title_names_the_book_once() -> None:
    assert publish.title_of("<title>The book &#8212; The book</title>") == "The book"
    assert publish.title_of("<title>A &amp; B &#8212; The book</title>") == "A &amp; B &#8212; The book"


def test_the_card_has_the_size_that_other_sites_want() -> None:
    content = (ROOT / "book" / "assets" / Path(publish.CARD).name).read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", content[16:24]) == (1200, 630)


# ---- files of the repository -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["book", "tests"])
def test_workflows_pin_their_actions_and_run_what_exists(name: str) -> None:
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()
    workflow = yaml.safe_load(text)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+\.\d+\.\d+", step["uses"]) for step in steps if "uses" in step)
    targets = re.findall(r"make (\w+)", " ".join(step.get("run", "") for step in steps))
    assert targets and all(f"\n{target}:" in (ROOT / "Makefile").read_text() for target in targets)
    assert workflow["permissions"] == {"contents": "read"}
    caches = [step["with"] for step in steps if step.get("uses", "").startswith("actions/cache@")]
    assert caches and all(cache["key"].startswith(cache["restore-keys"]) for cache in caches)


def test_only_main_is_deployed() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text())
    deploy = workflow["jobs"]["deploy"]
    assert deploy["needs"] == "build" and "github.ref == 'refs/heads/main'" in deploy["if"]
    assert "github.event_name != 'pull_request'" in deploy["if"]
    writing = {name for name, job in workflow["jobs"].items() if "write" in (job.get("permissions") or {}).values()}
    assert writing == {"deploy"}


def test_citations_agree() -> None:
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    text = re.sub(r"\s+", " ", (ROOT / "book" / "references.md").read_text())
    assert cff["version"] == ctrlib.__version__ and f"version = {{{ctrlib.__version__}}}" in text
    assert f"## {ctrlib.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert cff["title"] in text
    for paper in cff["references"]:
        assert paper["title"].strip().lower() in text.replace("{MLP}", "MLP").replace("{CTR}", "CTR").lower()
        assert all(author["family-names"] in text for author in paper["authors"])


def test_code_keeps_only_the_marks_that_show(tmp_path: Path) -> None:
    code = '<span class="k">def</span><span class="w"> </span><span class="nf">f</span><span class="p">(</span>'
    book = site(tmp_path, index=f'<pre>{code}<span class="n">x</span></pre>')
    publish.finish(book, "")
    shown = '<pre><span class="k">def</span> <span class="nf">f</span>(x</pre>'
    assert shown in (book / "index.html").read_text(encoding="utf-8")
    assert publish.without_idle_marks(shown) == shown
