"""Commands that the edge install can run, one file each; see `posert.runtime.cli.command`."""

__all__: list[str] = []
