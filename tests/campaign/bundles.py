"""What the parts about bundles share: members and seals of a bundle, and what is done with a damaged one."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posert.runtime.bundle.archive import Bundle
from posert.runtime.bundle.members import seal
from posert.runtime.estimator import PoseEstimator
from posert.runtime.pose.keypoints import Keypoints
from posert.tests.campaign import material
from posert.tests.campaign.case import Case, Defect
from posert.tests.campaign.command import posert
from posert.tests.campaign.mutate import pick

Members = dict[str, bytes]
_FORMATS = ("onnx", "torchscript", "triton", "deepstream", "polygraphy")


def members(path: Path) -> Members:
    """Names and bytes of the members, the manifest first."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sealed(held: Members, manifest: bytes | None = None) -> bytes:
    """A bundle of these members. Its manifest is made to agree with them, unless it is given as bytes."""
    if manifest is None:
        value = json.loads(held["manifest.json"])
        for record in (*value["artifacts"], value["golden"]):
            data = held[record["file"]]
            record.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        manifest = json.dumps(value).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in {**held, "manifest.json": manifest}.items():
            archive.writestr(zipfile.ZipInfo(name), data)
        archive.comment = seal(manifest)
    return stream.getvalue()


def check_keypoints(found: Keypoints, names: tuple[str, ...], people: int) -> None:
    """Whatever the network is: joints of all people, and no number that is none."""
    if found.xy.shape != (people, len(names), 2) or found.score.shape != (people, len(names)) or found.names != names:
        raise Defect("keypoints of another shape", f"{found.xy.shape} for {people} people of {len(names)} joints")
    if not (np.isfinite(found.xy).all() and np.isfinite(found.score).all()):
        raise Defect("NaN joints in silence", f"{found.xy[0, :3].tolist()} {found.score[0, :3].tolist()}")


class Uses:
    """Ways to use a bundle that may be damaged."""

    def __init__(self, folder: Path, backends: tuple[str, ...]) -> None:
        self._backends = backends
        self._frame = material.frame()
        self._image = folder / "frame.png"
        cv2.imwrite(str(self._image), self._frame)
        self._bundle = material.bundle(folder, script="torchscript" in backends)
        self._right = {
            name: PoseEstimator(self._bundle, backend=name)(self._frame, material.BOXES) for name in backends
        }
        self._folder = folder

    def any_of(self, case: Case, path: Path, whole: bool) -> str:
        """Use it in one of the ways; `whole`: a result must be that of the undamaged bundle."""
        ways: tuple[Callable[[Case, Path, bool], str], ...] = (self._estimate,) * 4 + (
            self._read,
            self._look,
            self._verify,
            self._run,
            self._export,
            self._card,
        )
        return ways[int(case.rng.integers(len(ways)))](case, path, whole)

    def _estimate(self, case: Case, path: Path, whole: bool) -> str:
        backend = self._backends[int(case.rng.integers(len(self._backends)))]
        case.done.append(f"PoseEstimator {backend}")
        estimator = PoseEstimator(path, backend=backend, flip_test=not whole and bool(case.rng.random() < 0.2))
        case.named += ("at person ",)  # of what the network gives for a frame, the place is said
        found = estimator(self._frame, material.BOXES)
        check_keypoints(found, estimator.contract.keypoints, len(material.BOXES))
        if whole and not material.same(found, self._right[backend]):
            raise Defect("other joints in silence")
        return "equal" if whole else "another network"

    def _read(self, case: Case, path: Path, whole: bool) -> str:
        case.done.append("Bundle.check")
        with Bundle(path) as bundle:
            bundle.check()
            if whole:
                with Bundle(self._bundle) as right:
                    same = bundle.contract == right.contract and bundle.artifacts == right.artifacts
                if not same:
                    raise Defect("another contract in silence")
        return "equal" if whole else "another network"

    def _look(self, case: Case, path: Path, whole: bool) -> str:
        case.done.append("inspect")
        posert("inspect", path)
        return "inspected"

    def _verify(self, case: Case, path: Path, whole: bool) -> str:
        case.done.append("verify")
        result = posert("verify", path)
        if whole and not result["passed"]:
            raise Defect("verify fails on an undamaged bundle", json.dumps(result)[:300])
        return "equal" if whole else "another network"

    def _export(self, case: Case, path: Path, whole: bool) -> str:
        form = pick(case.rng, _FORMATS)
        case.done.append(f"export {form}")
        posert("export", form, path, "--output", case.folder / "exported")
        return "exported"

    def _card(self, case: Case, path: Path, whole: bool) -> str:
        case.done.append("card")
        posert("card", path, "--output", case.folder / "README.md")
        return "described"

    def _run(self, case: Case, path: Path, whole: bool) -> str:
        case.done.append("run")
        output = case.folder / "out.json"
        result: Any = posert("run", path, self._image, "--output", output, "--backend", "onnxruntime")
        if not output.is_file() or json.loads(output.read_text())["frames"] != 1 != result["frames"]:
            raise Defect("results in another form", f"{result}"[:300])
        return "ran"
