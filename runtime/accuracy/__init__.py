"""How accurate a network is: the accuracy gate of a build, the evaluation on a data set, and the check of an engine."""

__all__: list[str] = []
