"""Networks from the `model` section of a config or an experiment file.

Each family is built in full: with whatever its source lets a config vary. What is not known here is refused by name: a
key that was silently ignored would give another network.
"""

from .network import BuiltNetwork, network_of

__all__ = ["BuiltNetwork", "network_of"]
