"""The hook of mkdocs.yml: adds the pages that are made rather than written, and checks the site that was built."""

from __future__ import annotations

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from posert.docs.generators import api, built, cli, fields, links, tutorials


def on_startup(command: str, dirty: bool) -> None:
    """Lay out the sources before mkdocstrings looks for its paths: without them it would read the whole checkout."""
    api.show_sources()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the sections of the navigation that are empty in mkdocs.yml."""
    try:
        sections = {"Tutorials": tutorials.pages(), "Command line": cli.pages(), "Python": api.pages()}
    except links.DeadLinkError as error:
        raise PluginError(str(error)) from error
    config.nav = _filled(config.nav or [], {title: list(pages) for title, pages in sections.items()})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is generated."""
    for path, content in {**tutorials.pages(), **cli.pages(), **api.pages(), **links.pages()}.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the tables of fields where a page asks for them."""
    return fields.filled(markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Check every page as a browser would load it, and list the addresses outside of the site that are linked."""
    report = built.check(config.site_dir)
    if report.faults:
        raise PluginError("\n".join(["the site that was built has faults:", *report.faults]))
    print("\n".join(["addresses outside of the site, not looked up:", *sorted(report.outside)]))


def _filled(nav: list[Any], pages: dict[str, list[str]]) -> list[Any]:
    """The navigation with its empty sections filled; a section that stays empty is left out."""
    filled: list[Any] = []
    for entry in nav:
        if isinstance(entry, dict):
            ((title, inner),) = entry.items()
            if isinstance(inner, list):
                inner = _filled(inner, pages) if inner else pages[title]
            if inner:
                filled.append({title: inner})
        else:
            filled.append(entry)
    return filled
