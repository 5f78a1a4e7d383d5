"""What a published book has beside its pages: redirects, and where its address is known a sitemap and a social card.

And what its pages can do without: marks on code that look like the text around them.

`book/redirects.toml` lists every page that was ever published, and for those that moved the page in their place.
"""

from __future__ import annotations

import html
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ctrlib.errors import SettingError
from ctrlib.paths import root

CARD = "_static/social-card.png"
CARD_TEXT = "Two papers on click prediction, run again with many seeds: a verdict on every claim."
LIKE_TEXT = re.compile(r'<span class="(?:n|nn|p|w)">([^<]*)</span>')  # names, punctuation and spaces of code
NO_PAGES = ("_static", "_sources")  # folders of the book that hold files of the theme and downloads
UNLISTED = ("genindex.html", "search.html")
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


def finish(book: Path, address: str) -> list[str]:
    """Add to the built pages below `book` what a published book has; return what is wrong, one line each.

    Without an address only redirects are added. Marks on code that the theme colours like the text itself go.
    """
    manifest = load_manifest()
    listed = pages(book)
    for name in listed:
        path = book / name
        path.write_text(without_idle_marks(path.read_text(encoding="utf-8")), encoding="utf-8")
    wrong = lost(manifest, listed) + _redirect(book, manifest, listed, address)
    if address:
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
    """Return the sitemap of the pages; the book's front door stands for the page that it leads to."""
    entries = "".join(f"  <url><loc>{html.escape(f'{address}/{page}')}</loc></url>\n" for page in listed)
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{space}">\n{entries}</urlset>\n'


def _add_card(path: Path, name: str, address: str) -> None:
    """Give a page what other sites show of it: title, description and picture."""
    text = path.read_text(encoding="utf-8")
    if 'property="og:title"' in text or "</head>" not in text:
        return
    title = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
    shown = {
        "og:title": title[1].strip() if title else "",  # escaped already
        "og:description": html.escape(CARD_TEXT),
        "og:type": "website",
        "og:url": html.escape(f"{address}/{name}"),
        "og:image": html.escape(f"{address}/{CARD}"),
        "og:image:alt": html.escape(CARD_TEXT),
    }
    tags = "".join(f'<meta property="{key}" content="{value}">\n' for key, value in shown.items())
    tags += '<meta name="twitter:card" content="summary_large_image">\n'
    path.write_text(text.replace("</head>", f"{tags}</head>", 1), encoding="utf-8")
