"""The evaluation of configs: each construct gives what Python gives, and what is not understood says its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from posert.export.configs.evaluate import read_config
from posert.export.configs.values import Unknown
from posert.runtime.errors import ConfigError


def values(folder: Path, text: str, **others: str) -> dict[str, Any]:
    """The variables of a config; `others` are files beside it."""
    for name, content in others.items():
        (folder / f"{name}.py").write_text(content)
    (folder / "config.py").write_text(text)
    return dict(read_config(folder / "config.py").values)


UNDERSTOOD = [
    "codec = dict(type='X', size=(192, 256))\na = codec['size']\nb = codec['size'][0]",
    "a = [1] * 3 + [2]\nb = (1, ) * 4\nc = 7 // 2, 7 / 2, 7 % 3, 2**4, -1, +1, not 0",
    "root = 'data/x/'\na = f'{root}b.json'\nb = f'{1}-{2.5}'\nc = 'a' 'b' + 'c'",
    "size = (192, 256)\na = tuple([s // 32 for s in size])\nb = {i: s for i, s in enumerate(size)}",
    "a = [(i, j) for i in range(3) for j in range(i) if j != 1]\nb = {i % 2 for i in range(5)}",
    "x = 5\na = [x for x in range(3)]\nb = x",
    "a = [1, 2]\nb = [0, *a, 3]\nc = (*a, *b)\nd = {**dict(x=1), 'y': 2}",
    "a = []\nfor i in range(3):\n    a.append(i)\na.extend([8, 9])\na += [10]\nb = a[1:3]\nc = a[-1]",
    "a = dict(x=1, y=dict(z=2))\na.update(x=3, w=4)\na['y']['z'] = 5\nb = a.copy()\nb['x'] = 0\nc = a.get('q', 7)",
    "a = [1]\nb = a\nb += [2]\nb.append(3)",
    "a = dict({0: 'x', 1: 'y'})\nb = dict([('k', 1)])\nc = dict(dict(x=1, y=2), y=3)",
    "a = list(range(2, 8, 3))\nb = len(a)\nc = max(1, 5), min([3, 2]), sum([1, 2]), sorted([3, 1, 2]), abs(-1)",
    "a = 1 if 2 > 1 else 0\nb = 1 < 2 < 3\nc = 'x' in ['x']\nd = 0 or 5\ne = 1 and 2\nf = None is None",
    "if 1 == 1:\n    a = 1\nelse:\n    a = 2",
    "a, b = 1, (2, 3)\nc, (d, e) = 4, b\nf = g = [5]",
    "b = list(zip([1, 2], 'xy'))\nc = round(2.6), int('3'), float('1.5'), str(4), bool(0)",
    "a = dict(x=1)\ndel a['x']\nb = 1\ndel b",
    "a = {'b': 1}.items()\nfor k, v in a:\n    c = (k, v)\na = 0",
    "a = 'x,y'.split(',')\nb = 'X'.lower()",
    "a = list(reversed([1, 2]))\nb = [i for i in (1, 2, 3) if i > 1][0]",
    "a = [[1, 2], [3]]\nb = [j for i in a for j in i]\na.insert(0, 9)\nc = a.pop()",
]


@pytest.mark.parametrize("text", UNDERSTOOD)
def test_as_python_does(tmp_path: Path, text: str) -> None:
    expected: dict[str, Any] = {}
    exec(text, {}, expected)  # the lines above, which are ours
    assert values(tmp_path, text) == expected


NOT_UNDERSTOOD = [
    "a = open('x')",
    "import os\na = os.environ['HOME']",
    "a = [x for x in unknown]",
    "a = lambda: 1",
    "a = 'x' % 1",
    "a = f'{1:5d}'",
    "a = dict(x=1)\na.merge(y=2)",
    "a = [3, 1]\na.sort()",
    "a = {'x': 1}['y']",
    "a = '{{ fileDirname }}'",
    "def f():\n    return 1\na = f()",
    "class a:\n    pass",
    "a = 0\nwhile a < 3:\n    a += 1",
    "a = 1\ntry:\n    a = 2\nexcept Exception:\n    pass",
    "a = 1\nif unknown:\n    a = 2",
    "a = dict(x=1)\nchange(a)",
    "a = [1]\nb = [a]\nchange(b)",
    "a = [1]\ndef f():\n    a.append(2)\nf()",
    "a = []\nfor i in range(5):\n    if i == 2:\n        break\n    a.append(i)",
    "a = dict(x=1)\na.update(load())",
    "a = 1\nfrom somewhere import *",
    "a = [1, unknown][1]",
    "a = 2 in [1, unknown]",
    "a = 1j",
    "import numpy as np\na = np.array([1, 2])",
    "dict = 3\na = dict(x=1)",
]


@pytest.mark.parametrize("text", NOT_UNDERSTOOD)
def test_what_is_not_understood_says_its_line(tmp_path: Path, text: str) -> None:
    found = values(tmp_path, text).get("a", Unknown(f"{tmp_path}/config.py:1: no part of the config"))
    assert isinstance(found, Unknown)
    assert f"{tmp_path}/config.py:" in found.why


def test_an_annotated_name(tmp_path: Path) -> None:
    assert values(tmp_path, "a: int = 3\nb: list") == {"a": 3}


def test_one_bad_value_leaves_the_others(tmp_path: Path) -> None:
    found = values(tmp_path, "a = dict(good=1, bad=open('x'), also=[2, open('y')])")["a"]
    assert found["good"] == 1 and found["also"][0] == 2
    assert isinstance(found["bad"], Unknown) and isinstance(found["also"][1], Unknown)


BASE = (
    "model = dict(type='A', head=dict(x=1, y=[1, 2]), neck=dict(z=1))\ninfo = dict(name='n', deep=dict(k=[7]))\nn = 3"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model = dict(head=dict(x=2))", {"type": "A", "head": {"x": 2, "y": [1, 2]}, "neck": {"z": 1}}),
        ("model = dict(head=dict(_delete_=True, q=5))", {"type": "A", "head": {"q": 5}, "neck": {"z": 1}}),
        ("model = dict(head=dict(y=[9]))", {"type": "A", "head": {"x": 1, "y": [9]}, "neck": {"z": 1}}),
        ("model = dict(neck=None)", {"type": "A", "head": {"x": 1, "y": [1, 2]}, "neck": None}),
        ("model = 5", 5),
        (
            "model = dict(neck=dict(z={{_base_.info.deep.k}}))",
            {"type": "A", "head": {"x": 1, "y": [1, 2]}, "neck": {"z": [7]}},
        ),
        ("model = dict(type='{{_base_.info.name}}')", {"type": "n", "head": {"x": 1, "y": [1, 2]}, "neck": {"z": 1}}),
        ("model = dict(type=_base_.info.name, head=None, neck=_base_.n * 2)", {"type": "n", "head": None, "neck": 6}),
    ],
)
@pytest.mark.parametrize("form", ["'./base.py'", "['base.py', './other.py']"])
def test_bases_merge(tmp_path: Path, form: str, text: str, expected: Any) -> None:
    found = values(tmp_path, f"_base_ = {form}\n{text}", base=BASE, other="z = 1")
    assert found["model"] == expected
    assert found["info"] == {"name": "n", "deep": {"k": [7]}}


def test_names_of_a_base_are_no_names_here(tmp_path: Path) -> None:
    found = values(tmp_path, "_base_ = 'base.py'\na = n", base=BASE)
    assert isinstance(found["a"], Unknown) and "config.py:2" in found["a"].why


def test_bases_that_both_set_a_name(tmp_path: Path) -> None:
    found = values(tmp_path, "_base_ = ['base.py', 'other.py']", base="a = 1\nb = 1", other="b = 2\nc = 3")
    assert (found["a"], found["c"]) == (1, 3) and isinstance(found["b"], Unknown)


def test_a_dict_over_something_else(tmp_path: Path) -> None:
    assert isinstance(values(tmp_path, "_base_ = 'base.py'\nn = dict(x=1)", base=BASE)["n"], Unknown)


def test_new_style(tmp_path: Path) -> None:
    text = (
        "from mmengine.config import read_base\nwith read_base():\n    from .base import *\n"
        "    from .other import z as zz\n"
        "from mmpose.models import HeatmapHead, HRNet as Net\nimport mmpose.codecs as codecs\n"
        "model.update(head=dict(type=HeatmapHead, n=n, codec=codecs.UDPHeatmap, net=Net))\n"
    )
    found = values(tmp_path, text, base=BASE, other="z = 4")
    assert found["model"]["head"] == {
        "type": "HeatmapHead",
        "n": 3,
        "codec": "mmpose.codecs.UDPHeatmap",
        "net": "HRNet",
    }
    assert found["zz"] == 4
    assert not {"HeatmapHead", "Net", "codecs", "read_base"} & found.keys()


def test_a_base_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found without importing the package."""
    package = tmp_path / "some_package"
    (package / ".mim" / "configs" / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / ".mim" / "configs" / "inner" / "base.py").write_text(BASE)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert values(tmp_path, "_base_ = 'some_package::inner/base.py'")["n"] == 3


def test_a_config_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "configs" / "inner").mkdir(parents=True)
    (root / "configs" / "inner" / "base.py").write_text(BASE)
    for name in ("mmpose::inner/base.py", "../../inner/base.py"):
        (tmp_path / "config.py").write_text(f"_base_ = {name!r}")
        with pytest.raises(ConfigError, match=r"config.py:1: .*--config-root"):
            read_config(tmp_path / "config.py")
        assert read_config(tmp_path / "config.py", root).values["n"] == 3


@pytest.mark.parametrize("name", ["mmpose::_base_/default_runtime.py", "../_base_/default_runtime.py", "../runtime.py"])
def test_a_missing_base_that_holds_nothing_needed_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.py").write_text(f"_base_ = [{name!r}]\na = 1")
    found = read_config(tmp_path / "config.py")
    assert found.values == {"a": 1}
    assert name in found.notes[0]


def test_a_missing_data_set_file_of_mmpose(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("_base_ = '../_base_/datasets/mpii.py'\na = {{_base_.dataset_info}}")
    found = read_config(tmp_path / "config.py")
    assert found.values["a"]["keypoint_info"][0] == {"name": "right_ankle", "swap": "left_ankle"}
    assert "table of MMPose" in found.notes[0]


def test_lines_of_variables(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("b = 1\n\nc = 2")
    (tmp_path / "config.py").write_text("_base_ = 'base.py'\na = {}\n\na['x'] = 1\nb = 2")
    lines = read_config(tmp_path / "config.py").lines
    assert {name: Path(line).name for name, line in lines.items()} == {
        "a": "config.py:4",
        "b": "config.py:5",
        "c": "base.py:3",
    }
