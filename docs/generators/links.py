"""Links of documents outside of docs/ that are pages of the site: they have to lead somewhere there, too."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Documents of the checkout and the pages that they are, or that stand for them, below docs/.
INCLUDED = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
_STANDS_FOR = {"README.md": "index.md"}

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


class DeadLinkError(Exception):
    """A link to a file that the checkout does not have."""


def pages(root: Path = ROOT) -> dict[str, str]:
    """CHANGELOG and CONTRIBUTING as pages, by their paths below docs/."""
    return {page: moved((root / file).read_text(encoding="utf-8"), file, page, root) for file, page in INCLUDED.items()}


def moved(text: str, source: str, page: str, root: Path = ROOT) -> str:
    """A document of the checkout as a page of the site. A link to what the site does not have becomes its path.

    Args:
        text: the document.
        source: its path below the root of the checkout: "examples/01_first/README.md".
        page: its path below docs/: "tutorials/01_first/index.md".
        root: of the checkout.

    Raises:
        DeadLinkError: a link leads to a file that is not there.
    """

    def link(match: re.Match[str]) -> str:
        picture, label, target = match.groups()
        file, _, anchor = target.partition("#")
        if not file or re.match(r"[a-z]+:", file):
            return match[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), file))
        if not (root / there).exists():
            raise DeadLinkError(f"{source}: the link to {target} leads nowhere")
        home = place(there, root)
        if home is None:
            return label if there in label else f"{label} (`{there}`)"
        home, _, place_in_page = home.partition("#")
        anchor = anchor or place_in_page
        relative = posixpath.relpath(home, posixpath.dirname(page) or ".")
        return f"{picture}[{label}]({relative}{'#' if anchor else ''}{anchor})"

    parts = _FENCE.split(text)
    return "".join(part if _FENCE.fullmatch(part) else _LINK.sub(link, part) for part in parts)


def place(file: str, root: Path = ROOT) -> str | None:
    """Where a file of the checkout is on the site: a path below docs/, also with an anchor; None if nowhere."""
    documents = INCLUDED | _STANDS_FOR
    if file in documents:
        return documents[file]
    first, *rest = file.split("/")
    if first == "docs" and rest[:1] != ["generators"]:
        return "/".join(rest)
    if first != "examples":
        return None
    if (root / file).is_dir():
        rest.append("README.md")
    name = "index.md" if rest[-1] == "README.md" else f"index.md#{rest[-1]}"
    return "/".join(["tutorials", *rest[:-1], name])
