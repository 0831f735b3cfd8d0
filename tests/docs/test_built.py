"""The check of the site that was built finds what a reader would stumble over."""

from __future__ import annotations

from pathlib import Path

import pytest

from posert.docs.generators import built

GOOD = '<a href="other/#there">x</a> <a href="https://example.org/a">y</a> <img src="pic.png"><h1 id="top">t</h1>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text(GOOD)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text('<h2 id="there">z</h2> <a href="../#top">up</a> <a href="..">up</a>')
    (tmp_path / "pic.png").write_bytes(b"")
    (tmp_path / "style.css").write_text("a { background: url(pic.png) }")
    return tmp_path


def test_a_good_site(site: Path) -> None:
    report = built.check(site)
    assert report.faults == [] and report.outside == {"https://example.org/a"}


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="gone/">x</a>', "links to gone/, which is not there"),
        ('<a href="other/#gone">x</a>', "other/index.html has no such anchor"),
        ('<a href="#gone">x</a>', "index.html has no such anchor"),
        ('<img src="gone.png">', "links to gone.png"),
        ('<a href="https://exa mple">x</a>', "which is no address"),
        ('<a href="ftp://example.org">x</a>', "which is no address"),
        ('<script src="https://unpkg.com/x.js"></script>', "loads https://unpkg.com/x.js"),
        ('<link rel="stylesheet" href="//fonts.googleapis.com/css">', "loads //fonts.googleapis.com/css"),
    ],
)
def test_a_fault(site: Path, html: str, fault: str) -> None:
    (site / "index.html").write_text(GOOD + html)
    assert [line for line in built.check(site).faults if fault in line]


@pytest.mark.parametrize("css", ['@import "x.css";', "a { src: url(https://fonts.gstatic.com/x.woff2) }"])
def test_a_style_sheet_that_loads(site: Path, css: str) -> None:
    (site / "style.css").write_text(css)
    (fault,) = built.check(site).faults
    assert "style.css" in fault
