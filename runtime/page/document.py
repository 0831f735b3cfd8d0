"""What all pages share: the document around the sections, sections, tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

MARKS = {"done": "done", "failed": "failures", "interrupted": "interrupted"}
"""The states of a page, and the word at its top."""


def document(
    program: str,
    title: str,
    state: str,
    lead: str,
    tiles: Iterable[tuple[str, str]],
    sections: Iterable[str],
    facts: Mapping[str, str],
    *,
    mark: str = "",
    scripts: str = "",
) -> str:
    """A whole page as text, with its style in it.

    Args:
        program: the command that made it.
        title, lead: its heading, and the sentence below.
        state: of `MARKS`; `mark` replaces its word.
        tiles: figures, each with what it is.
        sections, scripts: HTML.
        facts: what was run, by name.
    """
    values = {
        "program": escape(program),
        "title": escape(title),
        "state": state,
        "mark": escape(mark or MARKS[state]),
        "lead": escape(lead),
        "tiles": "".join(f'<div class="tile"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in tiles),
        "sections": "".join(sections),
        "facts": "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items()),
        "style": part("style.css"),
        "scripts": scripts,
    }
    return Template(part("base.html")).substitute(values)


def part(name: str) -> str:
    """The text of a file of this folder."""
    return (files(__package__) / name).read_text("utf-8")


def section(title: str, note: str, body: str, name: str = "") -> str:
    """A section: heading, a note below it, and HTML."""
    said = f"<p>{escape(note)}</p>" if note else ""
    return f'<section class="{name}"><h2>{escape(title)}</h2>{said}{body}</section>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text that scrolls sideways where it is wider than the page. The first cell of a row names it."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(_row(row) for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(cells: Sequence[str]) -> str:
    first, *others = cells
    return f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in others)}</tr>"
