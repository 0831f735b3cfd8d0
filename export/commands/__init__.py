"""The commands that need torch; see `posert.runtime.cli`."""

__all__: list[str] = []
