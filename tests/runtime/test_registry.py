"""Registries: files and plug-ins are found, names are unique, unknown names get a suggestion."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from posert.runtime import registry
from posert.runtime.datasets import DATASETS, dataset, datasets
from posert.runtime.errors import BackendError, CatalogError
from posert.runtime.registry import Registry, unknown_name


@dataclass(frozen=True)
class Toy:
    """What the registry under test holds."""

    name: str
    colour: str = "red"


TOYS = Registry("toy", "registry_under_test", "TOY", "posert.toys", Toy, BackendError)
FILE = "from posert_test_toys import Toy\nTOY = Toy('{}')\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / "registry_under_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "posert_test_toys", sys.modules[__name__])
    yield package
    for name in [n for n in sys.modules if n.split(".")[0] == package.name]:
        del sys.modules[name]


Install = Callable[..., Path]


def test_unknown_names() -> None:
    known = ["hrnet_w32", "hrnet_w48", "res50"]
    text = unknown_name("architecture", "hrnet_w23", known)
    assert text.startswith("unknown architecture 'hrnet_w23'. Did you mean hrnet_w32")
    assert text.endswith("Known: hrnet_w32, hrnet_w48, res50")
    assert "Did you mean" not in unknown_name("architecture", "zzz", known)


def test_what_is_not_near_is_not_offered() -> None:
    assert "Did you mean" not in unknown_name("dataset", "foo", ["aic", "coco", "mpii"])
    assert "Did you mean onnxruntime?" in unknown_name("backend", "onnx", ["onnxruntime", "openvino"])
    assert "Did you mean" not in unknown_name("backend", "", ["onnxruntime", "openvino"])


class TestRegistry:
    def test_a_file_gives_its_spec(self, folder: Path) -> None:
        (folder / "car.py").write_text(FILE.format("car"))
        (folder / "_hidden.py").write_text("raise RuntimeError")
        assert TOYS.names() == ["car"]
        assert TOYS.load("car") == Toy("car")

    def test_names_are_listed_without_an_import(self, folder: Path, install_plugin: Install) -> None:
        (folder / "car.py").write_text("raise RuntimeError('imported')")
        install_plugin("toy-shop", "raise RuntimeError('imported')", "posert.toys", ball="toy_shop:BALL")
        assert TOYS.names() == ["ball", "car"]

    def test_a_plug_in_gives_its_spec(self, folder: Path, install_plugin: Install) -> None:
        (folder / "car.py").write_text(FILE.format("car"))
        source = "from posert_test_toys import Toy\nBALL = Toy('ball', 'blue')\n"
        install_plugin("toy-shop", source, "posert.toys", ball="toy_shop:BALL")
        assert TOYS.load("ball") == Toy("ball", "blue")
        assert TOYS.specs() == {"ball": Toy("ball", "blue"), "car": Toy("car")}
        assert TOYS.plugin_failures() == {}

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
            ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
            ("syntax error", "SyntaxError"),
            ("BELL = 1", "AttributeError: module 'toy_shop' has no attribute 'BALL'"),
            ("BALL = 1", "TOY is a int; expected a Toy"),
            ("from posert_test_toys import Toy\nBALL = Toy('bell')", "has the name 'bell'; expected 'ball'"),
        ],
    )
    def test_a_plug_in_that_fails_is_named_and_breaks_nothing_else(
        self, folder: Path, install_plugin: Install, source: str, reason: str
    ) -> None:
        (folder / "car.py").write_text(FILE.format("car"))
        install_plugin("toy-shop", source, "posert.toys", ball="toy_shop:BALL")
        with pytest.raises(BackendError, match=rf"posert\.toys: ball \(toy-shop\).*{reason}"):
            TOYS.load("ball")
        assert TOYS.load("car") == Toy("car") and list(TOYS.specs()) == ["car"]
        (label,) = TOYS.plugin_failures()
        assert label == "posert.toys: ball (toy-shop)" and label in TOYS.plugin_failures()[label]

    def test_a_name_given_twice_names_both(self, folder: Path, install_plugin: Install) -> None:
        (folder / "car.py").write_text(FILE.format("car"))
        source = "from posert_test_toys import Toy\nCAR, BALL = Toy('car'), Toy('ball')\n"
        install_plugin("toy-shop", source, "posert.toys", car="toy_shop:CAR", ball="toy_shop:BALL")
        twice = r"'car' is given by registry_under_test\.car and again by posert\.toys: car \(toy-shop\)"
        with pytest.raises(BackendError, match=twice):
            TOYS.load("car")
        assert TOYS.load("ball") == Toy("ball")
        install_plugin("toy-market", source, "posert.toys", ball="toy_market:BALL")
        with pytest.raises(BackendError, match=r"ball \(toy-market\) and again by .*ball \(toy-shop\)|shop.*market"):
            TOYS.load("ball")
        assert len(TOYS.plugin_failures()) == 3

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("", r"registry_under_test\.car: TOY is absent; expected a Toy"),
            ("TOY = 'car'", r"registry_under_test\.car: TOY is a str; expected a Toy"),
            (FILE.format("bus"), r"registry_under_test\.car: its TOY has the name 'bus'; expected 'car'"),
        ],
    )
    def test_a_file_without_a_proper_spec_is_named(self, folder: Path, source: str, message: str) -> None:
        (folder / "car.py").write_text(source)
        with pytest.raises(BackendError, match=message):
            TOYS.load("car")
        with pytest.raises(BackendError, match=message):  # a fault of this package is not left out
            TOYS.specs()

    def test_an_unknown_name(self, folder: Path, install_plugin: Install) -> None:
        install_plugin("toy-shop", "", "posert.toys", ball="toy_shop:BALL")
        with pytest.raises(BackendError, match=r"unknown toy 'bal'\. Did you mean ball\? Known: ball"):
            TOYS.load("bal")

    def test_entry_points_are_read_once(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []
        monkeypatch.setattr(registry, "entry_points", lambda group: asked.append(group) or ())
        registry._entry_points.cache_clear()
        assert TOYS.names() == TOYS.names() == []
        assert asked == ["posert.toys"]
        registry._entry_points.cache_clear()


def test_a_data_set_from_another_package(install_plugin: Install) -> None:
    source = """
from dataclasses import replace
from posert.runtime.datasets import dataset
DATASET = replace(dataset("coco"), name="zoo")
"""
    before = datasets()
    install_plugin("posert-zoo", source, "posert.datasets", zoo="posert_zoo:DATASET", ark="posert_zoo:ARK")
    assert datasets() == sorted([*before, "zoo"])
    assert dataset("zoo").keypoints == dataset("coco").keypoints
    with pytest.raises(CatalogError, match=r"plug-in posert.datasets: ark \(posert-zoo\) does not import"):
        dataset("ark")
    assert list(DATASETS.plugin_failures()) == ["posert.datasets: ark (posert-zoo)"]


def test_the_registry_is_light() -> None:
    """It lies below all other rooms: it imports none of them."""
    script = "import sys, posert.runtime.registry; print([m for m in sys.modules if m.startswith('posert.runtime.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['posert.runtime.errors', 'posert.runtime.registry']"
