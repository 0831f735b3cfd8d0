"""Train the demo networks and store their weights; not part of the wheel."""

__all__: list[str] = []
