"""The commands that need torch; see `posert.runtime.cli`."""
