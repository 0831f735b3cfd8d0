"""How the demo's detector sees a picture: at the top left of a grey border, as YOLOX does."""

from __future__ import annotations

import cv2
import numpy as np

from .people import Image

WIDTH, HEIGHT = 320, 256  # px of the network's input: a picture of 320x240 fits without being scaled
STRIDES = (8, 16, 32)  # of the cells that answer for people
PADDING = 114  # the grey


def letterbox(picture: Image) -> tuple[Image, float]:
    """The network's input `(256, 320, 3)` of a picture `(H, W, 3)`, both BGR, and by what the picture was scaled."""
    height, width = picture.shape[:2]
    scale = min(HEIGHT / height, WIDTH / width)
    size = int(width * scale), int(height * scale)
    filled = np.full((HEIGHT, WIDTH, 3), PADDING, np.uint8)
    filled[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    return filled, scale
