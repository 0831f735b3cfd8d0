"""Pieces that the sections of the report's page share."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

WIDE, NARROW = 980, 350  # px of a plot in a wide window and on a phone


def both(plot: Callable[[int], str]) -> str:
    """A plot for a wide window and one for a phone; the style sheet shows one of them."""
    return f'<div class="wide">{plot(WIDE)}</div><div class="narrow">{plot(NARROW)}</div>'


def section(title: str, text: str, body: str) -> str:
    """A card with a heading, a paragraph that explains it, and its body in HTML."""
    return f"<section><h2>{escape(title)}</h2><p>{escape(text)}</p>{body}</section>"
