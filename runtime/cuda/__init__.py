"""The CUDA path: from a frame to keypoints without leaving the GPU. The driver is loaded on first use."""

__all__: list[str] = []
