"""How accurate a network is: the accuracy gate of a build, the evaluation on a data set, and the check of an engine.

Public are the modules `evaluate` (a bundle on a data set) and `score` (a results file).
"""

__all__ = ["evaluate", "score"]
