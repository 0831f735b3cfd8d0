"""The pose bundle: one `.pose` file with the network in several precisions, its contract and its accuracy."""
