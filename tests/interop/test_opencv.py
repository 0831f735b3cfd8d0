"""Which OpenCV: the headless one is asked for, because the runtime opens no window and devices have no display.

opencv-python and opencv-contrib-python have the same functions and install the same files: whoever has one of them
keeps it with `pip install --no-deps posert numpy`.
"""

from __future__ import annotations

import ast
import configparser
from importlib.metadata import distributions
from pathlib import Path

import cv2

ROOT = Path(__file__).parents[2]
WINDOWS = {"imshow", "waitKey", "namedWindow", "destroyAllWindows", "selectROI", "setMouseCallback"}
DISTRIBUTIONS = {"opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"}


def functions_of_cv2(path: Path) -> set[str]:
    """Names `x` of every `cv2.x` in a file, and of every `from cv2 import x`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cv2"
    }
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "cv2"]
    return used | {alias.name for node in imported for alias in node.names}


def test_nothing_opens_a_window_or_asks_for_contrib() -> None:
    """So each of the four distributions will do."""
    used = {
        name for f in ("runtime", "calib", "export") for p in (ROOT / f).rglob("*.py") for name in functions_of_cv2(p)
    }
    assert {"warpAffine", "imread", "VideoCapture"} <= used
    assert not used & WINDOWS
    main_modules = {name for name in used if not hasattr(cv2, name)}
    assert not main_modules, f"this OpenCV ({cv2.__version__}) lacks {main_modules}"


def test_one_distribution_gives_it_and_the_bound_holds() -> None:
    """OpenCV 5 changed warpAffine: its crops are not those that networks were trained on."""
    installed = {name for d in distributions() if (name := (d.name or "").lower()) in DISTRIBUTIONS}
    assert len(installed) == 1, f"they overwrite each other's files: {installed}"
    assert int(cv2.__version__.split(".")[0]) < 5
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert "opencv-python-headless<5" in config["options"]["install_requires"].split()
