"""What a published book has beside its pages: its front door, redirects, and with an address sitemap and social card.

And what its pages can do without: marks on code that look like the text around them.

`book/redirects.toml` lists every page that was ever published, and for those that moved the page in their place.
"""

from __future__ import annotations

import html
import json
import os
import re
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ctrlib.book import colab
from ctrlib.errors import SettingError
from ctrlib.paths import root
from ctrlib.repository import chapters, texts

CARD = "_static/social-card.png"
CARD_TEXT = "Two papers on click prediction, run again with many seeds: a verdict on every claim."
LIKE_TEXT = re.compile(r'<span class="(?:n|nn|p|w)">([^<]*)</span>')  # names, punctuation and spaces of code
NO_PAGES = ("_static", "_sources")  # folders of the book that hold files of the theme and downloads
UNLISTED = ("genindex.html", "search.html")
FRONT_DOOR = "index.html"
LEADS_ON = re.compile(r'<meta http-equiv="refresh" content="0; ?url=([^"]+)"', re.IGNORECASE)
FRONT = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>{title}</title>
    <meta name="description" content="{description}">
    <meta http-equiv="refresh" content="0; url={link}">
    <link rel="canonical" href="{address}">
  </head>
  <body><p>{description} <a href="{link}">{title}</a></p></body>
</html>
"""
PARAGRAPH = re.compile(r"<p>(.*?)</p>", re.DOTALL)
MATHS = 'class="math'
SHORTEST, LONGEST = 60, 200  # characters of a description
MOVED = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <title>This page has moved</title>
    <meta http-equiv="refresh" content="0; url={link}">
    <link rel="canonical" href="{address}">
    <meta name="robots" content="noindex">
  </head>
  <body><p>This page has moved: <a href="{link}">{link}</a></p></body>
</html>
"""


@dataclass(frozen=True)
class Manifest:
    """published: pages such as chapters/05_qnn_alpha.html that may be linked to. redirects: old page -> new page."""

    published: tuple[str, ...]
    redirects: Mapping[str, str]


def load_manifest(path: Path | None = None) -> Manifest:
    """Return what `book/redirects.toml` says; nothing where there is no such file.

    Raises `SettingError` for a file that cannot be read or has another form.
    """
    path = path or root() / "book" / "redirects.toml"
    if not path.exists():
        return Manifest((), {})
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(tuple(found.pop("published")), dict(found.pop("redirects")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(f"{path} cannot be read ({error!r}). It needs `published` and [redirects].") from error
    if found:
        raise SettingError(f"{path} has unknown keys: {', '.join(found)}. Known: published, redirects.")
    return manifest


def site_address(repository: str) -> str:
    """Return the address under which the book is published, without a slash at its end; "" where it is not known.

    It is `CTRLIB_SITE`, else the GitHub Pages site of the repository.
    """
    if named := os.environ.get("CTRLIB_SITE"):
        return named.rstrip("/")
    match = re.fullmatch(r"https://github\.com/([^/]+)/([^/]+?)/?", repository)
    if not match:
        return ""
    owner, name = match[1].lower(), match[2]
    return f"https://{owner}.github.io" + ("" if name.lower() == f"{owner}.github.io" else f"/{name}")


def launch_buttons(buttons: Mapping[str, str], where: Mapping[str, str]) -> dict[str, str]:
    """Return the launch buttons without Colab's unless every notebook begins with Colab's cell for this repository.

    where: the repository's address and branch. Colab opens the notebook that is committed, and without the cell its
    first import fails; a line on the terminal says what to do.
    """
    pages = [page.with_suffix(".ipynb") for page in (*chapters(), *texts())]
    notebooks = [path for path in pages if path.exists()]
    if "colab_url" not in buttons or (notebooks and all(_opens_on_colab(path, where) for path in notebooks)):
        return dict(buttons)
    print(
        f"The button for Colab is left out: the notebooks lack its first cell for {where['address']}. To have it, "
        "write `repository: url:` in _config.yml, run `ctrlib book --pair` and commit the notebooks.",
        flush=True,
    )
    return {name: address for name, address in buttons.items() if name != "colab_url"}


def _opens_on_colab(notebook: Path, where: Mapping[str, str]) -> bool:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    wanted = colab.cell(where["address"], where["branch"])
    return bool(cells) and "".join(cells[0]["source"]).lower() == wanted.lower()  # GitHub's names, too, ignore case


def finish(book: Path, address: str) -> list[str]:
    """Add to the built pages below `book` what a published book has; return what is wrong, one line each.

    Without an address only redirects are added and the front door is written whole. Marks on code that the theme
    colours like the text itself go.
    """
    manifest = load_manifest()
    listed = pages(book)
    for name in listed:
        path = book / name
        path.write_text(without_idle_marks(path.read_text(encoding="utf-8")), encoding="utf-8")
    wrong = lost(manifest, listed) + _redirect(book, manifest, listed, address)
    if leads_on := _front_door(book, address):
        listed.remove(FRONT_DOOR)
    if address:
        if leads_on:
            _add_card(book / FRONT_DOOR, leads_on, address)
        for name in listed:
            _add_card(book / name, name, address)
        (book / "sitemap.xml").write_text(sitemap(listed, address), encoding="utf-8")
        (book / "robots.txt").write_text(f"User-agent: *\nAllow: /\nSitemap: {address}/sitemap.xml\n", encoding="utf-8")
        (book / ".nojekyll").touch()  # GitHub would leave out folders that begin with an underscore
    return wrong


def without_idle_marks(page: str) -> str:
    """Return a page whose code is marked only where a mark shows; names and punctuation have the colour of the text."""
    return LIKE_TEXT.sub(r"\1", page)


def pages(book: Path) -> list[str]:
    """Return the pages that a reader can be sent to, such as chapters/05_qnn_alpha.html."""
    found = [path.relative_to(book) for path in sorted(book.rglob("*.html"))]
    return [path.as_posix() for path in found if path.parts[0] not in NO_PAGES and path.as_posix() not in UNLISTED]


def lost(manifest: Manifest, listed: list[str]) -> list[str]:
    """Return the pages that were published once and now are neither there nor redirected, one line each."""
    known = {*listed, *manifest.redirects}
    return [
        f"{page} was published and is gone; say in book/redirects.toml which page took its place"
        for page in manifest.published
        if page not in known
    ]


def _redirect(book: Path, manifest: Manifest, listed: list[str], address: str) -> list[str]:
    """Write a page for each redirect; return those that cannot be."""
    wrong = []
    for old, new in manifest.redirects.items():
        target = new.split("#")[0]
        if old in listed:
            wrong.append(f"{old} is redirected to {new} and is a page too; remove the redirect in book/redirects.toml")
        elif target not in listed:
            wrong.append(f"{old} is redirected to {new}, which is no page; correct book/redirects.toml")
        else:
            place = book / old
            link = os.path.relpath(book / target, place.parent) + new[len(target) :]
            place.parent.mkdir(parents=True, exist_ok=True)
            text = MOVED.format(link=html.escape(link), address=html.escape(f"{address}/{new}" if address else link))
            place.write_text(text, encoding="utf-8")
    return wrong


def sitemap(listed: list[str], address: str) -> str:
    """Return the sitemap of the pages."""
    entries = "".join(f"  <url><loc>{html.escape(f'{address}/{page}')}</loc></url>\n" for page in listed)
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{space}">\n{entries}</urlset>\n'


def _front_door(book: Path, address: str) -> str:
    """Write the page whole that only leads on to another, as the renderer leaves it; return where it leads, or ""."""
    path = book / FRONT_DOOR
    leads = LEADS_ON.search(path.read_text(encoding="utf-8")) if path.exists() else None
    if not leads or not (target := book / (page := html.unescape(leads[1]))).is_file():
        return ""
    link = html.escape(page)
    shown = {"title": title_of(target.read_text(encoding="utf-8")), "description": html.escape(CARD_TEXT)}
    whole = FRONT.format(**shown, link=link, address=html.escape(f"{address}/{page}") if address else link)
    path.write_text(whole, encoding="utf-8")
    return page


def title_of(page: str) -> str:
    """Return the title of a page, escaped as it is there. A page that is called like the book has the name once."""
    title = re.search(r"<title>(.*?)</title>", page, re.DOTALL)
    parts = [part.strip() for part in title[1].split("&#8212;")] if title else []
    return " &#8212; ".join(dict.fromkeys(parts))


def description_of(page: str) -> str:
    """Return a page's first paragraph as plain text, shortened; what is short or holds a formula tells too little.

    A page without such a paragraph has the description of the book.
    """
    article = page.partition("<article")[2]
    for paragraph in PARAGRAPH.findall(article):
        text = " ".join(html.unescape(re.sub("<[^>]*>", "", paragraph)).split())
        if MATHS not in paragraph and len(text) >= SHORTEST:
            return textwrap.shorten(text, LONGEST, break_on_hyphens=False, placeholder=" …")
    return CARD_TEXT


def _add_card(path: Path, name: str, address: str) -> None:
    """Give a page what other sites show of it: title, description and picture. name: the page that it stands for."""
    text = path.read_text(encoding="utf-8")
    if 'property="og:title"' in text or "</head>" not in text:
        return
    shown = {
        "og:title": title_of(text),
        "og:description": html.escape(description_of(text)),
        "og:type": "website",
        "og:url": html.escape(f"{address}/{name}"),
        "og:image": html.escape(f"{address}/{CARD}"),
        "og:image:alt": html.escape(CARD_TEXT),
    }
    tags = "".join(f'<meta property="{key}" content="{value}">\n' for key, value in shown.items())
    tags += '<meta name="twitter:card" content="summary_large_image">\n'
    path.write_text(text.replace("</head>", f"{tags}</head>", 1), encoding="utf-8")
