"""The committed scene: what it shows, where it came from, and that it needs nothing but numpy and OpenCV."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np

from posert.export.demo.people import render
from posert.runtime.bench.scene import FRAME, boxes_of, crowd


def test_the_frame_is_the_rendered_one():
    """Twelve images of split "val", four in a row, enlarged to 1920x1080; JPEG of quality 95 loses little."""
    images, boxes = [], []
    for i in range(12):
        image, annotations = render("val", i)
        offset = np.array([i % 4 * image.shape[1], i // 4 * image.shape[0]])
        boxes += [(np.array(a["bbox"][:2]) + offset, a["bbox"][2:]) for a in annotations]
        images.append(image)
    sheet = np.vstack([np.hstack(images[row : row + 4]) for row in (0, 4, 8)])
    expected = cv2.resize(sheet, (1920, 1080), interpolation=cv2.INTER_LINEAR)
    frame, seen = crowd(25)
    assert frame.shape == expected.shape and frame.dtype == np.uint8
    assert cv2.PSNR(frame, expected) > 38  # dB
    np.testing.assert_array_equal(seen, [1.5 * np.concatenate([corner, corner + size]) for corner, size in boxes])


def test_fewer_people_are_the_first_and_more_repeat():
    frame, boxes = crowd(25)
    np.testing.assert_array_equal(crowd(1)[0], frame)
    np.testing.assert_array_equal(crowd(1)[1], boxes[:1])
    np.testing.assert_array_equal(boxes_of(40)[25:], boxes[:15])


def test_boxes_follow_the_size_of_the_frame():
    small, boxes = crowd(5, 360, 640)
    assert small.shape == (360, 640, 3)
    np.testing.assert_allclose(3 * boxes, boxes_of(5))


def test_an_edge_install_is_enough():
    """The command, its worker and the scene import neither export/ nor any extra."""
    code = (
        "import sys; import posert.runtime.cli.commands.bench, posert.runtime.bench.worker as w; "
        "from posert.runtime.bench.scene import crowd; crowd(1); "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'onnx', 'scipy', 'rich', 'pycocotools')"
        " or m.startswith(('posert.export', 'posert.calib', 'posert.benchmarks'))])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
    assert FRAME.stat().st_size < 1_000_000
