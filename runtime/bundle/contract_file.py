"""A contract in a file of its own: contract.yaml or contract.json, with the fields of `Contract` by name."""

from __future__ import annotations

import difflib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BundleError, ContractError
from ..system.json_text import StrictJsonError, parse_json
from .members import open_zip, read_manifest

_MAX_BYTES = 1 << 20
_MAX_NODES = 20_000  # also bounds the time, of a parser in Python
_MAX_SCALAR = 10_000
_MAX_DEPTH = 50


def read_values(path: Path) -> Any:
    """The fields of a contract in contract.yaml, contract.json or a bundle, not yet checked.

    Raises:
        ContractError: the file cannot be read.
        BundleError: the bundle cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ContractError(f"{path}: no file, expected contract.yaml, contract.json or a .pose bundle")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
            more = file.read(1)
    except (OSError, ValueError) as error:
        raise ContractError(f"{str(path)!r} cannot be read: {error}") from error
    if data.startswith(b"PK"):
        with open_zip(path) as archive:
            try:
                return read_manifest(archive, path)["contract"]
            except ValueError as error:
                raise BundleError(f"{path}: {error}; rebuild the bundle: posert build") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if more or "\0" in text:
        raise ContractError(f"{path}: no text of at most {_MAX_BYTES} bytes, expected contract.yaml or contract.json")
    return read_yaml(text, str(path))


def check_names(values: Any, known: Mapping[str, bool], label: str) -> dict[str, Any]:
    """Check that a file has the fields of a contract, by name; returns them, with tuples for lists.

    Args:
        values: the document. What `posert contract FILE --json` prints has them under `contract`.
        known: the fields, and whether a contract needs each.
        label: the file, for messages.

    Raises:
        ContractError: a field is missing or unknown; the message names it and the nearest one.
    """
    if isinstance(values, dict) and isinstance(values.get("contract"), dict):
        values = values["contract"]
    if not isinstance(values, dict):
        raise ContractError(f"{label}: {type(values).__name__}, expected the fields of a contract by name")
    unknown = [str(name) for name in values if name not in known]
    missing = [name for name, needed in known.items() if needed and name not in values]
    if unknown or missing:
        near = {name: difflib.get_close_matches(name, known, n=1) for name in unknown}
        told = ", ".join(f"{name[:60]} (did you mean {at[0]}?)" if at else name[:60] for name, at in near.items())
        raise ContractError(
            f"{label}: the contract "
            + " and ".join([f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {told}"] * bool(unknown))
            + f". Its fields: {', '.join(known)}"
        )
    return {name: _tuples(value) for name, value in values.items()}


def read_yaml(text: str, label: str) -> Any:
    """The value of a YAML document, of which JSON is a part; no tag is executed.

    Raises:
        ContractError: it is not YAML, or too large or too deep where aliases are written out.
    """
    if text.lstrip()[:1] in ("{", "["):
        try:
            value = parse_json(text.encode(errors="replace"))
        except StrictJsonError as error:
            raise ContractError(f"{label}:1: {error}") from error
        except ValueError:
            pass  # YAML's flow style, or a mistake that its reader names
        else:
            _check_depth(value, label)
            return value
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise ContractError(f'{label}: YAML files need the package PyYAML: pip install "posert[export]"') from error
    try:
        _check_size(yaml, text, label)
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ContractError(f"{label}{line}: not YAML that can be read: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise ContractError(f"{label}:1: not YAML that can be read: {str(error)[:200]}") from error


def _check_size(yaml: Any, text: str, label: str) -> None:
    """Count the nodes of a document as they are with every alias written out."""
    total, sizes, opened = 0, dict[str, int](), list[tuple[str | None, int]]()
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:  # of the node that it is in
                raise ContractError(f"{label}:{line}: an alias of what holds it")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.NodeEvent):
            total += 1
            if isinstance(event, yaml.ScalarEvent):
                if len(event.value) > _MAX_SCALAR:
                    raise ContractError(f"{label}:{line}: a text of {len(event.value)} characters")
                if event.anchor:
                    sizes[event.anchor] = 1
            else:
                opened.append((event.anchor, total - 1))
                sizes.pop(event.anchor, None)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor:
                sizes[anchor] = total - before
        if total > _MAX_NODES or len(opened) > _MAX_DEPTH:
            raise ContractError(f"{label}:{line}: too large or too deep for a file of this kind")


def _check_depth(value: Any, label: str) -> None:
    left = [(value, 0)]
    while left:
        item, depth = left.pop()
        if depth > _MAX_DEPTH:
            raise ContractError(f"{label}:1: too deep for a file of this kind")
        if isinstance(item, list | dict):
            left += [(part, depth + 1) for part in (item.values() if isinstance(item, dict) else item)]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
