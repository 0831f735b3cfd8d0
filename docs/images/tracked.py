"""Draw tracked.webp: a generated video with its people tracked.

python docs/images/tracked.py hrnet_demo.pose demo_detector.onnx docs/images/tracked.webp
"""

from __future__ import annotations

import sys

import cv2

from posert.export.demo.videos import FPS, clip
from posert.runtime import PosePipeline
from posert.runtime.pose.draw import draw

CLIP, FRAMES, EVERY, QUALITY = 6, 100, 2, 60


def main(bundle: str, detector: str, output: str) -> None:
    pipeline = PosePipeline(bundle, detector, detect_every=3)
    drawn = []
    for image, _ in clip("val", CLIP, FRAMES):
        people = pipeline(image)
        drawn.append(draw(image.copy(), people, pipeline.pose.contract, boxes=True))
    animation = cv2.Animation()
    animation.frames = drawn[::EVERY]
    animation.durations = [round(1000 * EVERY / FPS)] * len(animation.frames)
    if not cv2.imwriteanimation(output, animation, [cv2.IMWRITE_WEBP_QUALITY, QUALITY]):
        raise SystemExit(f"cannot write {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
