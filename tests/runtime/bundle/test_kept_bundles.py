"""Bundles of every schema that was ever written are opened, verified and run by this version, for ever.

`tests/goldens/bundles/schemaN.pose` is of the last commit before something in the format changed, with the keypoints
that this commit found by it in `schemaN.json`. Add one of the format that you replace; never make one anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from posert.runtime.accuracy.golden import check_session
from posert.runtime.backends import installed_backends
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.commands.inspect import describe
from posert.runtime.estimator import PoseEstimator
from posert.runtime.selection import open_session, select

FOLDER = Path(__file__).parents[2] / "goldens" / "bundles"
KEPT = sorted(FOLDER.glob("*.pose"))
BOXES = [[10, 10, 60, 100], [40, 20, 90, 110], [-20, -10, 40, 60]]


def frame() -> NDArray[np.uint8]:
    """The picture of which the keypoints are kept."""
    rows, columns, channels = np.mgrid[:120, :160, :3]
    squares = (rows // 20 + columns // 20) % 2 * 90
    return ((rows * columns // 7 + 31 * channels + squares) % 256).astype(np.uint8)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_it_is_opened_and_verified(path: Path) -> None:
    with Bundle(path) as bundle:
        bundle.check()
        assert describe(bundle) and select(bundle)
        golden = bundle.golden()
        for name, backend in installed_backends().items():
            for precision, artifact in backend.runnable().items():
                if artifact in bundle.artifacts and precision != "bf16":
                    session = open_session(bundle, name, precision, threads=1)
                    check = check_session(session, bundle.artifacts[artifact], golden, bundle.contract)
                    assert check.passed and check.error is not None and check.error < 1e-4, (name, precision)


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_it_finds_the_keypoints_that_were_found_when_it_was_made(path: Path, flip_test: bool) -> None:
    expected = json.loads(path.with_suffix(".json").read_text())["flip" if flip_test else "plain"]
    for backend in ("openvino", "onnxruntime", "torchscript"):
        people = PoseEstimator(path, backend=backend, precision="fp32", threads=1, flip_test=flip_test)(frame(), BOXES)
        seen = people.to_json()
        assert len(seen) == len(expected) == 3
        for one, other in zip(seen, expected, strict=True):
            assert one["box"] == other["box"]
            # float32 in another order, on another machine
            np.testing.assert_allclose(one["keypoints"], other["keypoints"], rtol=0, atol=5e-3)


def test_there_is_one_of_every_schema() -> None:
    assert {"schema1"} <= {path.stem for path in KEPT}
    assert all(path.stat().st_size < 400_000 for path in KEPT)
