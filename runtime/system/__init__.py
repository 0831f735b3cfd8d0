"""The machine and its operating system: hardware, files, memory, signals."""

__all__: list[str] = []
