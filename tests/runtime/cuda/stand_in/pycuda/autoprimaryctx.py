"""The primary context is there with the stand-in driver."""
