"""From boxes in a frame to crops, and from heatmaps to keypoints."""

__all__: list[str] = []
