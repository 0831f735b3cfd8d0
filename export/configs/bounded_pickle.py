"""The bytes of a pickle, of which no value and no line has gigabytes, as the zeros of a file with holes can be."""

from __future__ import annotations

from typing import IO

from ...runtime.errors import ConfigError

_MAX_VALUE = 64 << 20
_MAX_LINE = 1 << 20


class BoundedPickle:
    """A file for `pickletools.genops`, which uses no other methods. Both raise ConfigError: it asks for too much."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, count: int = -1) -> bytes:
        """The next `count` bytes."""
        if not 0 <= count <= _MAX_VALUE:
            raise ConfigError(f"a pickle with a value of {count} bytes, which no checkpoint has")
        return self._file.read(count)

    def readline(self) -> bytes:
        """The next line."""
        line = self._file.readline(_MAX_LINE)
        if len(line) == _MAX_LINE:
            raise ConfigError("a pickle with an endless line, which no checkpoint has")
        return line
