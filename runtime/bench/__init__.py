"""`posert bench`: end-to-end latency and throughput, and whether two results differ. Needs numpy and OpenCV only."""

__all__ = ["MODES"]

MODES = ("latency", "throughput")
"""A frame at a time, or a stream of frames."""
