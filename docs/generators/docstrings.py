"""Examples in docstrings: lines of a Python session become a block of code, as on the other pages."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SESSION = re.compile(r"^(>>> .*(?:\n(?!\s*$).*)*)", re.MULTILINE)


class Sessions(griffe.Extension):
    """For mkdocstrings: put sessions outside of "Examples:" sections into fences."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = _SESSION.sub(r"```pycon\n\1\n```", obj.docstring.value)
