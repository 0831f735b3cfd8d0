"""Commands that need torch, one file each; see `posert.runtime.cli.command`."""

__all__: list[str] = []
