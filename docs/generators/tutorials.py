"""Pages of the tutorials: each `examples/NN_name/README.md`, followed by the files of its folder."""

from __future__ import annotations

from pathlib import Path

from posert.docs.generators.links import ROOT, moved, place

EXAMPLES = "examples"
_LANGUAGES = {".json": "json", ".py": "python", ".sh": "bash", ".txt": "text", ".yaml": "yaml", ".yml": "yaml"}


def pages(root: Path = ROOT) -> dict[str, str]:
    """Every page by its path below docs/, the list first, then by number; none where there are no examples."""
    documents = [root / EXAMPLES / "README.md", *sorted((root / EXAMPLES).glob("[0-9][0-9]_*/README.md"))]
    return dict(_page(file, root) for file in documents if file.is_file())


def _page(file: Path, root: Path) -> tuple[str, str]:
    source = file.relative_to(root).as_posix()
    path = place(source, root)
    assert path is not None
    text = [moved(file.read_text(encoding="utf-8"), source, path, root).rstrip()]
    shown = [other for other in sorted(file.parent.iterdir()) if other.suffix in _LANGUAGES]
    if shown:
        text.append("## Files of this example")
    for other in shown:
        code = other.read_text(encoding="utf-8").rstrip()
        text.append(f"### {other.name} {{ #{other.name} }}\n\n```{_LANGUAGES[other.suffix]}\n{code}\n```")
    return path, "\n\n".join(text) + "\n"
