"""How accurate a network is: people, results, metrics, and the gate that every precision has to pass."""

__all__: list[str] = []
