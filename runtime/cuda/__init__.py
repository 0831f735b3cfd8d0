"""The CUDA path: from a frame to keypoints without leaving the GPU. A machine without one imports nothing of it."""

__all__: list[str] = []
