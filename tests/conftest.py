"""Fixtures that several folders share: a small real network, and a copy of the sources."""

from __future__ import annotations

import os

# Several processes run the tests (`make test`). Each works on one core: libraries that start a thread per core in each
# of them would wait for one another. They read this when they are loaded, so it comes first.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_variable, "1")

import importlib
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import filelock
import hypothesis
import onnx
import pytest
import torch

from posert.export.archs.hrnet import HRNet
from posert.export.demo import detector as demo_detector
from posert.export.demo.videos import FPS, clip
from posert.export.graph.reference import Reference, random_crops
from posert.export.graph.to_onnx import to_onnx, with_crops
from posert.export.graph.to_torchscript import to_torchscript
from posert.runtime import registry
from posert.runtime.bundle.archive import Artifact, Golden, describe, write_bundle
from posert.runtime.cli.main import main
from posert.tests.contracts import contract_of

ROOT = Path(__file__).parents[1]

# More examples where nobody waits: pytest --hypothesis-profile=ci, as `.ci/run all` does.
hypothesis.settings.register_profile("local", max_examples=30, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=100, deadline=None)
hypothesis.settings.load_profile("local")

# More than five seconds each, and something quicker proves nearly the same in `make test`: another family of networks,
# another graph, the same function on less. `make test-slow` and `.ci/run all` have them, too. Beginnings of node ids.
SLOW = (
    "tests/benchmarks/test_child.py::test_an_environment_is_made_once",
    "tests/benchmarks/test_child.py::test_posert_can_be_imported_there",
    "tests/benchmarks/test_engines.py::test_graphs_of_a_family",
    "tests/benchmarks/test_quantizers.py::test_every_ablation",
    "tests/benchmarks/test_quantizers.py::test_finished_rows_are_kept",
    "tests/benchmarks/test_quantizers.py::test_the_graph_itself",
    "tests/benchmarks/test_quantizers.py::test_ours_is_what",
    "tests/benchmarks/test_roofline.py::test_counts_of_a_graph",
    "tests/benchmarks/test_scaling.py::test_cells_are_measured_for_real",
    "tests/export/builder/test_api.py::test_a_network_of_two_outputs",
    "tests/export/builder/test_attention.py::test_it_is_built_whether_its_multiply_adds_are_known_or_not[unknown",
    "tests/export/builder/test_udp_combined.py::test_it_is_built",
    "tests/export/commands/test_build.py::TestOwnData::test_judged_and_calibrated",
    "tests/export/commands/test_build.py::TestTheGateFails::test_a_graph_that_gives_nan",
    "tests/export/commands/test_build.py::TestTheGateFails::test_an_error_leaves_the_old_bundle",
    "tests/export/commands/test_calibrate.py::test_it_holds_what_collecting_finds",
    "tests/export/test_published_models.py::test_build_stops_after_a_stage",
    "tests/export/trial/test_judgement.py::test_two_mistakes",
    "tests/runtime/bench/test_bench.py::test_rows_of_both_modes",
    "tests/runtime/cuda/test_benchmark.py::test_a_whole_measurement",
    "tests/runtime/system/test_signals.py::test_bench_ends",
    "tests/test_readme.py::test_block[",
)
# Networks whose export takes ten seconds and more; ResNet and MSPN stay, and test_archs.py has the outputs of all.
SLOW_NETWORKS = ("mm_hrnet_w32_mpii", "mm_hourglass52", "yx_pose_hourglass_2", "pu_hg2")


def is_slow(nodeid: str) -> bool:
    exported = nodeid.startswith("tests/export/test_published_models.py") and any(
        f"[{name}" in nodeid for name in SLOW_NETWORKS
    )
    of_a_graph = any(f"::test_{name}" in nodeid for name in ("graph_", "batch_", "crops_"))
    return nodeid.startswith(SLOW) or (exported and of_a_graph)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_slow(item.nodeid):
            item.add_marker(pytest.mark.slow)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    # A shell starts background jobs with SIGINT ignored, and the processes that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled graphs of tests do not go to the user's cache, nor come from there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """`made_once(name, make)`: the folder that `make(folder)` filled, once for all processes of this run.

    Do not write into it: the other processes read it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made_once"
    shared.mkdir(exist_ok=True)

    def get(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared / name
        with filelock.FileLock(shared / f"{name}.lock"):
            if not folder.exists():
                partial = shared / f"{name}.partial"
                shutil.rmtree(partial, ignore_errors=True)  # of a process that failed
                partial.mkdir()
                make(partial)
                partial.rename(folder)
        return folder

    return get


@pytest.fixture(scope="session")
def sources(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A copy of the checkout without what is built in it. Do not write into it."""

    def ignore(folder: str, names: Iterable[str]) -> set[str]:
        built = {"build", "out", "dist"} if Path(folder) == ROOT else set()
        kept = {".ci", ".dockerignore", ".github", ".gitignore"}
        return {n for n in names if n in built or n.endswith((".egg-info", "__pycache__")) or n[0] == "."} - kept

    return made_once("sources", lambda folder: shutil.copytree(ROOT, folder, ignore=ignore, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def narrow_reference() -> Reference:
    """An HRNet for COCO at 128x96 with one block per branch and random weights; its heatmaps are finite noise."""
    contract = contract_of("coco", 96, 128)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = HRNet(17, widths=(8, 16, 32, 64), modules=(1, 1, 1), blocks=1, stem=16, bottlenecks=1, planes=8)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # untrained statistics would make folding it a no-op
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.1)
    return Reference(network.eval(), contract)


@pytest.fixture(scope="session")
def narrow_onnx(
    made_once: Callable[[str, Callable[[Path], object]], Path], narrow_reference: Reference
) -> onnx.ModelProto:
    """Its plain graph: normalised images in, heatmaps out. Copy it before changing it."""
    folder = made_once("narrow_onnx", lambda to: onnx.save(to_onnx(narrow_reference), to / "narrow.onnx"))
    return onnx.load(folder / "narrow.onnx")


@pytest.fixture(scope="session")
def narrow_bundle(
    made_once: Callable[[str, Callable[[Path], object]], Path],
    narrow_reference: Reference,
    narrow_onnx: onnx.ModelProto,
) -> Path:
    """Its bundle: fp32 and TorchScript, accuracy unproven. Copy it before changing it."""

    def make(folder: Path) -> None:
        contract = narrow_reference.contract
        graphs = {}
        to_torchscript(narrow_reference, folder / "torchscript.pt")
        for name, form, data in (
            ("fp32", "onnx", with_crops(narrow_onnx, contract).SerializeToString()),
            ("torchscript", "torchscript", (folder / "torchscript.pt").read_bytes()),
        ):
            file = f"{name}.{'onnx' if form == 'onnx' else 'pt'}"
            opset = narrow_onnx.opset_import[0].version if form == "onnx" else None
            graphs[name] = (Artifact(name, form, file, precision="fp32", opset=opset, **describe(data)), data)
        crops = random_crops(contract, 2)
        write_bundle(
            folder / "narrow.pose",
            name="narrow-coco-128x96",
            model={"arch": "narrow", "dataset": "coco", "weights": "random"},
            contract=contract,
            graphs=graphs,
            golden=Golden(crops, narrow_reference.infer(crops)),
            calibration=None,
            accuracy={"verdict": "unproven", "rows": []},
            versions={},
        )

    return made_once("narrow_bundle", make) / "narrow.pose"


@pytest.fixture(scope="session")
def demo_files(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """demo.pose, in fp32 alone, detector.onnx, and 24 frames of the clip 0 of `val` as clip.mp4. Do not write there."""

    def make(folder: Path) -> None:
        options = ["--precision", "fp32", "--limit", "1", "--output", str(folder / "demo.pose")]
        assert main(["build", "--arch", "pose_resnet_demo", "--weights", "demo", *options]) in (0, 3)
        demo_detector.write(folder / "detector.onnx")
        frames = [frame for frame, _ in clip("val", 0, 24)]
        height, width = frames[0].shape[:2]
        writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (width, height))
        for frame in frames:
            writer.write(frame)
        writer.release()

    return made_once("demo_files", make)


@pytest.fixture(scope="session")
def free_ports() -> Callable[[], tuple[int, int]]:
    """Two ports of the loopback that nobody listens at."""

    def find() -> tuple[int, int]:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            return one.getsockname()[1], other.getsockname()[1]

    return find


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Install a package with entry points as pip does: its module and its dist-info, in a folder on the path.

    `install_plugin("their-package", source, "posert.backends", toy="their_package:BACKEND")` returns the folder.
    """
    site = tmp_path / "site-packages"
    site.mkdir()
    modules: list[str] = []

    def install(package: str, source: str, group: str, **entries: str) -> Path:
        module = package.replace("-", "_")
        (site / f"{module}.py").write_text(source)
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        modules.append(module)
        registry._entry_points.cache_clear()  # the folder has changed, its path has not
        importlib.invalidate_caches()
        return site

    monkeypatch.syspath_prepend(str(site))
    yield install
    for module in modules:
        sys.modules.pop(module, None)
    registry._entry_points.cache_clear()


@pytest.fixture(scope="session")
def demo_bundle(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """What `make demo` builds, without int8 and judged on fewer people, for blocks of examples and documentation."""

    def make(folder: Path) -> None:
        graphs = ["--precision", "fp32,fp16", "--engine", "none", "--limit", "8", "--max-drop", "0.05"]
        output = ["--output", str(folder / "hrnet_demo.pose")]
        assert main(["build", "--arch", "hrnet_demo", "--weights", "demo", *graphs, *output]) == 0

    return made_once("demo_bundle", make) / "hrnet_demo.pose"
