"""Commands of the command line that the edge install can run; see `posert.runtime.cli.main`."""

__all__: list[str] = []
