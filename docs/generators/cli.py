"""Pages of the command line, from the parsers that the commands themselves use."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from functools import partial

from posert.runtime.cli.command import GROUPS, Command, command_modules, load_command
from posert.runtime.cli.main import command_parser

FOLDER = "reference/cli"
_WIDTH = 92  # of usage lines: what fits beside the navigation


def pages() -> dict[str, str]:
    """Every page by its path below docs/: the list of commands first, then each command."""
    commands = {name: load_command(name) for name in command_modules()}
    return {
        f"{FOLDER}/index.md": _index(commands),
        **{f"{FOLDER}/{name}.md": page(name, command) for name, command in sorted(commands.items())},
    }


def page(name: str, command: Command) -> str:
    """A command, its subcommands and all their options."""
    parts = [f"# posert {name}", "", *_command(f"posert {name}", command)]
    for word, sub in command.subcommands.items():
        parts += [f"## posert {name} {word}", "", *_command(f"posert {name} {word}", sub)]
    return "\n".join(parts)


def markdown(text: str) -> str:
    """Plain text with everything escaped that Markdown or HTML would read as markup."""
    return re.sub(r"([\\`*_{}\[\]#|~])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))


def _index(commands: dict[str, Command]) -> str:
    text = ["# Command line", ""]
    text += ["Every page here is generated from the parser of its command. `posert COMMAND --help` prints the same."]
    text += ["What a command returns: [exit statuses](../exit_statuses.md)."]
    for group, title in GROUPS.items():
        text += ["", f"## {title[0].upper()}{title[1:]}", "", "| command | does |", "|---|---|"]
        members = sorted((name, command) for name, command in commands.items() if command.group == group)
        for name, command in members:
            text.append(f"| [`posert {name}`]({name}.md) | {markdown(command.summary)} |")
    return "\n".join([*text, ""])


def _command(prog: str, command: Command) -> Iterator[str]:
    parser = command_parser(command, prog)
    parser.formatter_class = partial(argparse.HelpFormatter, width=_WIDTH)
    yield f"{markdown(command.summary)}."
    if command.extra:
        yield f'It needs `pip install "posert[{command.extra}]"`.'
    yield from ("", "```text", parser.format_usage().strip(), "```", "")
    for group in parser._action_groups:  # argparse has no public list of them
        actions = [
            action for action in group._group_actions if action.help != argparse.SUPPRESS and action.dest != "help"
        ]
        if actions:
            yield from (f"**{markdown((group.title or '').capitalize())}**", "")
            for action in actions:
                yield from _argument(parser, action)


def _argument(parser: argparse.ArgumentParser, action: argparse.Action) -> Iterator[str]:
    """A definition: how the argument is written, and its help line as `--help` prints it."""
    formatter = parser._get_formatter()
    written = formatter._format_action_invocation(action)
    yield f"`{written}`"
    yield f":   {markdown(formatter._expand_help(action)) if action.help else ''}"
    yield ""
