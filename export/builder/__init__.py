"""A build, step by step: graphs, precisions, accuracy gate, bundle."""

__all__: list[str] = []
