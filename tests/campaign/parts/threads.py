"""Threads, forks, pools, half-read streams, exceptions in consumers, and two versions of a bundle at once."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from posert.runtime.bundle.archive import Bundle
from posert.runtime.errors import BackendError, PosertError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.pose.keypoints import Keypoints
from posert.tests.campaign import material
from posert.tests.campaign.bundles import members, sealed
from posert.tests.campaign.case import Case, Defect, Part, Run
from posert.tests.campaign.mutate import pick

_CHILD_S = 15.0


class _Uses:
    def __init__(self, folder: Path) -> None:
        self.path = material.bundle(folder)
        self.frames = [(material.frame(i), material.BOXES[: 1 + i % 2]) for i in range(4)]
        self.estimators = {
            "openvino": PoseEstimator(self.path, backend="openvino"),
            "throughput": PoseEstimator(self.path, backend="openvino", throughput=True),
            "onnxruntime": PoseEstimator(self.path, backend="onnxruntime"),
        }
        self.right = {name: [e(*f) for f in self.frames] for name, e in self.estimators.items()}

    def compare(self, name: str, found: list[Keypoints], where: str) -> None:
        if not all(material.same(a, b) for a, b in zip(found, self.right[name] * 9, strict=False)):
            raise Defect("other joints in silence", where)

    def threads(self, case: Case, name: str) -> str:
        """Calls and streams of one estimator from several threads."""
        estimator, count = self.estimators[name], int(case.rng.integers(2, 9))

        def work(number: int) -> list[Keypoints]:
            if number % 3 == 2:
                return list(estimator.stream(self.frames))
            if number % 3 == 1:
                stream = estimator.stream(self.frames)
                first = [next(stream)]
                stream.close()  # type: ignore[attr-defined]
                return first
            return [estimator(*frame) for frame in self.frames]

        with ThreadPoolExecutor(count) as pool:
            for found in pool.map(work, range(2 * count)):
                self.compare(name, found, "in threads")
        return "threads equal"

    def half_read(self, case: Case, name: str) -> str:
        """Streams that are left, dropped or closed in the middle, and errors of who reads them."""
        estimator = self.estimators[name]
        for _ in range(int(case.rng.integers(1, 5))):
            stream = estimator.stream(self.frames)
            for _ in range(int(case.rng.integers(4))):
                next(stream)
            way = str(case.rng.choice(["close", "drop", "throw", "keep"]))
            if way == "close":
                stream.close()  # type: ignore[attr-defined]
            elif way == "throw":
                try:
                    stream.throw(KeyError("of the reader"))  # type: ignore[attr-defined]
                except KeyError:
                    pass
            elif way == "drop":
                del stream
                gc.collect()
            else:
                self.compare(name, [estimator(*self.frames[0])], "beside a stream")
        self.compare(name, list(estimator.stream(self.frames)), "after half-read streams")
        return "streams equal"

    def forked(self, case: Case, name: str) -> str:
        """A child made by os.fork(): refused there, or a new estimator that gives the same."""
        estimator, fresh = self.estimators[name], bool(case.rng.random() < 0.5)

        def child() -> None:
            try:
                found = (
                    PoseEstimator(self.path, backend=self.estimators[name].selection.backend) if fresh else estimator
                )
                same = material.same(found(*self.frames[0]), self.right[name][0])
                os._exit(0 if fresh and same else 3)
            except BackendError:
                os._exit(4 if fresh else 0)
            except BaseException:
                os._exit(5)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(_CHILD_S)
        if process.is_alive():
            process.kill()
            raise Defect("hang", f"in a forked child, {'new' if fresh else 'the same'} estimator")
        if process.exitcode != 0:
            raise Defect(f"a forked child ends with {process.exitcode}", f"{name} {'new' if fresh else 'the same'}")
        self.compare(name, [estimator(*self.frames[0])], "in the parent after a fork")
        return "fork refused" if not fresh else "fork equal"

    def versions(self, case: Case, name: str) -> str:
        """A bundle that is replaced by another version while it is open."""
        path = case.folder / "small.pose"
        shutil.copyfile(self.path, path)
        backend = self.estimators[name].selection.backend
        with Bundle(path) as bundle:
            held = members(path)
            other = sealed(
                {**held, "manifest.json": held["manifest.json"].replace(b'"padding": 1.25', b'"padding": 1.5')}
            )
            way = pick(case.rng, ("rename", "in place"))
            if way == "rename":
                (case.folder / "new").write_bytes(other)
                os.replace(case.folder / "new", path)
            else:
                path.write_bytes(other)
            case.named += (path.name,)
            old = PoseEstimator(bundle, backend=backend)
        new = PoseEstimator(path, backend=backend)
        if {old.contract.padding, new.contract.padding} - {1.25, 1.5} or new.contract.padding != 1.5:
            raise Defect("another version in silence", f"{old.contract.padding} {new.contract.padding}")
        self.compare(name, [old(*self.frames[0])], "of the version that was open")
        if np.array_equal(new(*self.frames[0]).xy, self.right[name][0].xy):
            raise Defect("the old version in silence")
        return f"versions: {way}"

    def together(self, case: Case, name: str) -> str:
        """Several estimators of one bundle opened at once, with an empty cache."""
        shutil.rmtree(os.environ["POSERT_CACHE"], ignore_errors=True)
        found: list[Keypoints | BaseException] = []

        def work() -> None:
            try:
                found.append(PoseEstimator(self.path, backend=self.estimators[name].selection.backend)(*self.frames[0]))
            except BaseException as error:
                found.append(error)

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for one in found:
            if isinstance(one, PosertError):
                raise one
            if isinstance(one, BaseException):
                raise Defect(f"traceback: {type(one).__name__} in a thread", f"{one}")
            self.compare(name, [one], "of estimators opened at once")
        return "opened at once, equal"


def open_part(folder: Path) -> Run:
    uses = _Uses(folder)
    ways: tuple[Callable[[Case, str], str], ...] = (
        *(uses.threads, uses.half_read, uses.half_read, uses.forked, uses.versions, uses.together),
    )

    def run(case: Case) -> str:
        way, name = pick(case.rng, ways), pick(case.rng, list(uses.estimators))
        case.done.append(f"{way.__name__} {name}")
        return way(case, name)

    return run


PART = Part("threads", "threads, forks, half-read streams, versions of a bundle", 1500, 15, open_part, limit_s=40)
