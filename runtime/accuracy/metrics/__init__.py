"""The metrics that published figures are made of, each by the rules of its own data set."""
