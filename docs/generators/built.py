"""Checks of the site as it was built: no page needs the network, and no link or anchor of one page leads nowhere."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes whose address a browser loads by itself, or follows when it is clicked.
_LOADED = {
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("object", "data"),
}
_FOLLOWED = {("a", "href")}
_STYLE = re.compile(r"url\(\s*['\"]?(https?:|//)|@import")


@dataclass
class Report:
    """What is wrong, a line each, and the addresses outside of the site that pages link to."""

    faults: list[str] = field(default_factory=list)
    outside: set[str] = field(default_factory=set)


@dataclass
class _Page(HTMLParser):
    """The addresses and anchors of a page."""

    loaded: list[str] = field(default_factory=list)
    followed: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "link" and values.get("rel") in ("canonical", "next", "prev", "alternate"):
            return
        for name, value in values.items():
            if (tag, name) in _LOADED:
                self.loaded.append(value)
            elif (tag, name) in _FOLLOWED:
                self.followed.append(value)


def check(folder: str | Path) -> Report:
    """Look through every page and style sheet below a folder."""
    site = Path(folder).resolve()
    report = Report()
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site)
        for address in page.loaded:
            if urlsplit(address).netloc:
                report.faults.append(f"{name} loads {address}: a reader on a closed network sees a broken page")
        for address in {*page.loaded, *page.followed}:
            parts = urlsplit(address)
            if parts.scheme in ("data", "mailto", "javascript"):
                continue
            if parts.scheme or parts.netloc:
                report.outside.add(address)
                if parts.scheme not in ("http", "https") or not re.fullmatch(
                    r"[\w.-]+\.\w+(:\d+)?|localhost", parts.netloc
                ):
                    report.faults.append(f"{name} links to {address}, which is no address")
            else:
                report.faults += _inside(site, path, address, pages, name)
    for style in site.rglob("*.css"):
        if _STYLE.search(style.read_text(encoding="utf-8")):
            report.faults.append(f"{style.relative_to(site)} loads something from another server")
    return report


def _inside(site: Path, path: Path, address: str, pages: dict[Path, _Page], name: Path) -> list[str]:
    parts = urlsplit(address)
    target = path
    if parts.path:
        base = site if parts.path.startswith("/") else path.parent
        target = Path(os.path.normpath(base / unquote(parts.path).lstrip("/")))
        target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        # The page of a missing address is served at any depth, with addresses from the root of the site.
        return [] if name == Path("404.html") else [f"{name} links to {address}, which is not there"]
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors and not anchor.startswith("__"):
        return [f"{name} links to {address}, and {target.relative_to(site)} has no such anchor"]
    return []


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page
