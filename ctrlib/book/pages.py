"""One page of the book: its paired notebook, its form in the book, and what it must satisfy.

No prose holds a typed result, and no page loads anything from the network.
"""

from __future__ import annotations

import copy
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ctrlib.book import colab
from ctrlib.book.embed import Shelf

Notebook = Any  # nbformat brings no types
PLOTLY = "application/vnd.plotly.v1+json"
INJECTED = "injected-parameters"  # papermill's tag
CAPTION = re.compile(r"\*(?P<words>[^*]+)\*(?:\s|$)")  # how `views.show` writes it below a figure

# A result looks like 0.9812 or 98.12. Settings such as 0.0005 or 1e-3, versions and years do not.
RESULT = re.compile(r"(?<![\w.,/-])(?:0\.[1-9]\d{3,}|\d{2}\.\d{2,})(?![\w.]*\d)")
CODE_BLOCK = r"^```(?:\{(?:code-cell|code-block|math)\}|[a-z]).*?^```"
NOT_PROSE = re.compile(rf"{CODE_BLOCK}|`[^`\n]*`|https?://\S+|\A---\n.*?^---\n", re.DOTALL | re.MULTILINE)
SOURCE_LINK = re.compile(r'(?P<page>href="\.\./book/\w+)\.md(?P<place>[#"])')

LOADING = {  # tag -> attributes that make a browser fetch something
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src",),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
    "link": ("href",),
}
LINKS_THAT_LOAD = {
    "stylesheet",
    "preload",
    "prefetch",
    "modulepreload",
    "icon",
    "preconnect",
    "dns-prefetch",
    "apple-touch-icon",
    "manifest",
    "shortcut",
}
OUTSIDE = re.compile(r"(?:^|[\s,])(?:https?:)?//", re.IGNORECASE)
OUTSIDE_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?\s*(?:https?:)?//[^\s\"')]+", re.IGNORECASE)

# What the renderer adds for live code, which this book does not offer: two inline copies of one `const`, a script error
# on each page, that name a content delivery network, and settings that name a repository of others.
LIVE_CODE = re.compile(
    r"<script>const THEBE_JS_URL.*?</script>|<script[^>]*sphinx-thebe\.js[^>]*></script>"
    r"|<script type=\"text/x-thebe-config\">.*?</script>|<script>kernelName = '[^']*'</script>",
    re.DOTALL,
)


def paired(source: Path, address: str = "", branch: str = "main") -> str:
    """Return the paired notebook of `source` as text: the same input gives the same bytes.

    address: of the repository; where it is known the notebook begins with a cell for Google Colab.
    """
    import jupytext
    from nbformat.v4 import new_code_cell

    notebook = jupytext.read(source)
    notebook.cells = without_colab(notebook)
    if address:
        tagged = {"tags": [colab.TAG]}
        notebook.cells.insert(0, new_code_cell(colab.cell(address, branch), metadata=tagged))  # type: ignore[no-untyped-call]
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        name = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:10]
        seen[name] = seen.get(name, 0) + 1
        cell.id = f"{name}-{seen[name]}"  # from the content, so that an edit changes no other cell
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    text: str = jupytext.writes(notebook, fmt="ipynb")
    return text.rstrip("\n") + "\n"


def without_colab(notebook: Notebook) -> list[Any]:
    """Return the cells of a notebook that its text source has, too: all but the one for Google Colab."""
    return [cell for cell in notebook.cells if colab.TAG not in cell.metadata.get("tags", [])]


def with_text_of(executed: Notebook, source: Notebook) -> Notebook:
    """Return `source` with the outputs of `executed`, whose code cells are the same, and the cells papermill added."""
    page, ran = copy.deepcopy(source), [cell for cell in executed.cells if cell.cell_type == "code"]

    def added() -> list[Any]:
        return [ran.pop(0)] if ran and INJECTED in ran[0].metadata.get("tags", []) else []

    cells = added()
    for cell in page.cells:
        cells.append(cell)
        if cell.cell_type == "code":
            done = ran.pop(0)
            cell.outputs, cell.execution_count = done.outputs, done.execution_count
            cells += added()
    page.cells = cells
    return page


def marked_stale(notebook: Notebook, name: str, why: list[str], date: str) -> Notebook:
    """Return the notebook with a note below its title: what changed since it was executed, and what to do.

    name: the page's, for the command. date: when it was executed; "" if it never was.
    """
    title = "This page is stale" if date else "This page was not executed"
    told = f"It was executed on {date}. Since then changed: {', '.join(why)}." if date else "It shows no outputs."
    old = " Its numbers may be out of date." if date else ""
    command = f"```bash\nctrlib book --only {name}\n```"
    text = f"{told}{old} Execute it:\n\n{command}"
    note = f":::{{admonition}} {title}\n:class: warning ctr-stale\n\n{text}\n:::"
    page = copy.deepcopy(notebook)
    first = next(cell for cell in page.cells if cell.cell_type == "markdown")
    heading = re.search(r"^# .*$", first.source, re.MULTILINE)
    end = heading.end() if heading else 0
    first.source = f"{first.source[:end]}\n\n{note}\n\n{first.source[end:].lstrip()}"
    return page


def without_machine(notebook: Notebook, machine_root: str) -> Notebook:
    """Return a copy of the notebook without `machine_root`, the folder whose name must not be shown."""
    import nbformat

    return nbformat.reads(nbformat.writes(notebook).replace(machine_root, "."), 4)


def figures_of(notebook: Notebook) -> list[Any]:
    """Return the figures that an executed notebook holds, as plotly's JSON."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"][PLOTLY] for output in outputs if PLOTLY in output.get("data", {})]


def for_the_book(notebook: Notebook, shelf: Shelf) -> Notebook:
    """Change the notebook into its form in the book and return it: figures on the `shelf`, progress bars gone."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
            for output, after in zip(cell.outputs, [*cell.outputs[1:], {}], strict=False):
                _to_pages(output)
                data = output.get("data", {})
                if PLOTLY in data:  # the JSON stays for the downloaded notebook
                    data["text/html"] = shelf.add(data[PLOTLY], _caption(cell, after))
    _show_parameters_alike(notebook)
    return notebook


def _show_parameters_alike(notebook: Notebook) -> None:
    """Hide the cell that papermill added where the page hides its own parameters."""
    tagged = {tag: cell for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    if "parameters" in tagged and (added := tagged.get(INJECTED)):
        added.source = added.source.replace("# Parameters", "# Set when this book was built", 1)
        tags = tagged["parameters"].metadata.tags
        added.metadata.tags += [tag for tag in tags if tag.startswith(("hide-", "remove-"))]


def _is_progress(output: Any) -> bool:
    return output.get("name") == "stderr" and "\r" in output.get("text", "")


def _to_pages(output: Any) -> None:
    """Let links to sources of pages in raw HTML lead to the pages; those of Markdown the renderer resolves itself."""
    data = output.get("data", {})
    if "text/markdown" in data:
        data["text/markdown"] = SOURCE_LINK.sub(r"\g<page>.html\g<place>", data["text/markdown"])


def _caption(cell: Any, after: Any) -> str:
    """Return the caption of a figure: that of its cell, or what the next output says in italics."""
    if own := cell.metadata.get("mystnb", {}).get("figure", {}).get("caption"):
        return str(own)
    found = CAPTION.match(after.get("data", {}).get("text/markdown", ""))
    return found["words"] if found else ""


def typed_numbers(markdown: str) -> list[str]:
    """Return the results that are typed into prose; code, links and roles such as glue are not prose."""
    return RESULT.findall(NOT_PROSE.sub(" ", markdown))


def problems(html: Path, machine_root: str) -> list[str]:
    """Remove live-code scripts from the pages below `html`; return what else is wrong, one line each."""
    found, read = [], {}
    for page in sorted(html.rglob("*.html")):
        text = LIVE_CODE.sub("", page.read_text(encoding="utf-8"))
        page.write_text(text, encoding="utf-8")
        name = page.relative_to(html)
        read[page.resolve()] = _read(text)
        found += [f"{name} loads {address} from the network" for address in read[page.resolve()].loads]
        if machine_root in text:
            found.append(f"{name} shows the folder {machine_root} of this machine")
    for sheet in sorted(html.rglob("*.css")):
        loads = OUTSIDE_STYLE.findall(sheet.read_text(encoding="utf-8"))
        found += [f"{sheet.relative_to(html)} loads {rule} from the network" for rule in loads]
    return found + _broken(html.resolve(), read)


def broken_links(html: Path) -> list[str]:
    """Return the links of the pages below `html` that lead to no file or no anchor, one line each.

    Links to other hosts are not followed. The theme's own files below `_static` are no pages. What follows a # with an
    equals sign in it is the state of a page's filter, which its script reads, and no anchor.
    """
    files = sorted(html.resolve().rglob("*.html"))
    return _broken(html.resolve(), {path: _read(path.read_text(encoding="utf-8")) for path in files})


def _broken(html: Path, pages: dict[Path, _Page]) -> list[str]:
    found = []
    for path, page in pages.items():
        if path.relative_to(html).parts[0] == "_static":
            continue
        for link in dict.fromkeys(page.links):
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(address.fragment)
            if not target.is_relative_to(html) or not target.is_file():
                found.append(f"{path.relative_to(html)} links to {link}, which is not there")
            elif anchor and "=" not in anchor and target in pages and anchor not in pages[target].anchors:
                found.append(f"{path.relative_to(html)} links to {link}, which has no such anchor")
    return found


def external_loads(html: str) -> list[str]:
    """Return the addresses that a browser would fetch from another host to show this page. Links are fine."""
    return _read(html).loads


def _read(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    return page


class _Page(HTMLParser):
    """Collect what a page loads from other hosts, what it links to, and the anchors that others can link to."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.inside = tag
        self.links += [values[name] for name in ("href", "src") if values.get(name)]
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        self.loads += OUTSIDE_STYLE.findall(values.get("style", ""))
        if tag == "link" and not LINKS_THAT_LOAD & set(values.get("rel", "").lower().split()):
            return
        addresses = [values.get(name, "") for name in LOADING.get(tag, ())]
        self.loads += [address for address in addresses if OUTSIDE.search(address)]

    def handle_data(self, data: str) -> None:
        if self.inside == "style":
            self.loads += OUTSIDE_STYLE.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""
