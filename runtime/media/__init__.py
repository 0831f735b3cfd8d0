"""Files and devices on both sides of a run: images, videos, cameras and boxes in; drawings and JSON out."""

__all__: list[str] = []
