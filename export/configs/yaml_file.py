"""Read YAML and JSON without executing tags, and without the expansion of aliases in aliases."""

from __future__ import annotations

from typing import Any

from ...runtime.bundle.contract_file import read_yaml
from ...runtime.errors import ConfigError, ContractError


def load(text: str, label: str) -> Any:
    """The value of a YAML or JSON document.

    Raises:
        ConfigError: it is neither, or is larger than any file that posert reads; the message names the line.
    """
    try:
        return read_yaml(text, label)
    except ContractError as error:
        raise ConfigError(str(error)) from error
