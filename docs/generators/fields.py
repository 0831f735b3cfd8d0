"""Tables of the fields of a record, in place of `<!-- generated: NAME -->` on a page; from the JSON Schemas."""

from __future__ import annotations

import json
import re
from typing import Any

from posert.docs.generators import schemas
from posert.docs.generators.cli import markdown

_PLACE = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def filled(text: str) -> str:
    """A page with its tables."""
    return _PLACE.sub(lambda match: table(match[1]), text)


def table(name: str) -> str:
    """The table of a record: contract, artifact or engine.

    Raises:
        KeyError: there is no such record.
    """
    bundle, engine = schemas.bundle_schema()["properties"], schemas.engine_schema()["properties"]
    records = {"contract": bundle["contract"], "artifact": bundle["artifacts"]["items"], "engine": engine["engine"]}
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field, part in records[name]["properties"].items():
        default = f"`{json.dumps(part['default'])}`" if "default" in part else ""
        lines.append(f"| `{field}` | {_type(part)} | {default} | {_sentence(part['description'])} |")
    return "\n".join(lines)


def _sentence(text: str) -> str:
    """A description, in which what stands between backticks is code."""
    return "".join(part if part.startswith("`") else markdown(part) for part in re.split(r"(`[^`]*`)", text))


def _type(part: dict[str, Any]) -> str:
    if part["type"] == "array":
        return "list of " + re.sub(r"^\w+", r"\g<0>s", _type(part["items"]))
    kinds = part["type"] if isinstance(part["type"], list) else [part["type"]]
    return " or ".join(kinds)
