"""The report of a build: a table in the terminal, `report.json`, and `report.html` with its plots."""

from .write import print_blocks, print_table, write_report

__all__ = ["print_blocks", "print_table", "write_report"]
