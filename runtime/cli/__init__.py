"""The command line, `posert COMMAND ...`: one file per command in `commands`."""

__all__: list[str] = []
