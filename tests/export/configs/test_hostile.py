"""Files that attack their reader: each is refused by file and line, within 2 s and 200 MB, with nothing executed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from posert.export.configs import pickles, read_description
from posert.runtime.errors import ConfigError
from posert.runtime.system.memory import peak_mb

SECONDS, MEGABYTES = 2.0, 200
Outcomes = dict[str, tuple[str, float, float]]

# A config that is complete but for one line, so that the line decides.
COMPLETE = """
codec = dict(type='MSRAHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
model = dict(type='TopdownPoseEstimator', data_preprocessor=dict(mean=[1, 2, 3], std=[1, 2, 3], bgr_to_rgb=True),
    backbone=dict(type='HRNet'), head=dict(type='HeatmapHead', out_channels=17, decoder=codec))
train_dataloader = dict(dataset=dict(type='CocoDataset'))
"""

LINES = {
    "a large list": "a = [0] * 10**10",
    "a large text": "a = 'x' * 10**10",
    "a large list in a comprehension": "a = [[0] * 100000 for i in range(100000)]",
    "powers of powers": "a = 9**9**9",
    "powers in steps": "a = 9\na = a**60\na = a**60\na = a**60",
    "products in steps": "a = 2\nfor i in range(100000):\n    a = a * a",
    "a shift": "a = 1 << 10**10\nmodel['head']['decoder']['heatmap_size'] = a",
    "a format with a width": "model['head']['decoder']['heatmap_size'] = '%2000000000d' % 1",
    "an f-string with a width": "model['head']['decoder']['heatmap_size'] = f'{1:2000000000d}'",
    "str.format": "model['head']['decoder']['heatmap_size'] = '{:2000000000d}'.format(1)",
    "str.join": "model['head']['decoder']['heatmap_size'] = 'x'.join(['y'] * 1000)",
    "str.replace": "model['head']['decoder']['heatmap_size'] = ('x' * 1000).replace('x', 'y' * 1000)",
    "str.ljust": "model['head']['decoder']['heatmap_size'] = 'x'.ljust(10**10)",
    "a list that doubles": "a = [0]\nfor i in range(64):\n    a = a + a",
    "a list that doubles in place": "a = [0]\nfor i in range(64):\n    a += a",
    "a list that extends itself": "a = [0]\nfor i in range(64):\n    a.extend(a)",
    "a text that doubles": "a = 'x'\nfor i in range(64):\n    a = a + a",
    "an f-string that doubles": "a = 'x'\nfor i in range(64):\n    a = f'{a}{a}'",
    "a dict that doubles": "a = {0: 0}\nfor i in range(10**9):\n    a[i] = dict(a)",
    "a list that is appended to in its loop": "a = [0]\nfor x in a:\n    a.append(x)",
    "a list that is unpacked into itself": "a = [0]\nfor i in range(64):\n    a = [*a, *a]",
    "a list that holds itself": "a = []\na.append(a)",
    "a dict that holds itself": "model['head']['loss'] = model",
    "sixty times two": "a = []\nfor i in range(60):\n    a = [a, a]",
    "sixty times two dicts": "a = {}\nfor i in range(60):\n    a = dict(x=a, y=a)",
    "sixty times two, compared": "a = []\nb = []\nfor i in range(60):\n    a = [a, a]\n    b = [b, b]\nc = a == b",
    "sixty times two, as text": "a = []\nfor i in range(60):\n    a = [a, a]\nb = f'{a}'",
    "sixty times two, sorted": "a = []\nfor i in range(60):\n    a = [a, a]\nb = sorted([a, a])\nc = a in [a]",
    "loops in loops": "for i in range(10**6):\n    for j in range(10**6):\n        a = 1",
    "comprehensions in comprehensions": "a = [1 for i in range(10**6) for j in range(10**6)]",
    "a range as a list": "a = list(range(10**12))",
    "a sum of a range": "a = sum(range(10**15))",
    "an enumeration": "a = list(enumerate(range(10**12)))",
    "a deep value": "a = 0\nfor i in range(100000):\n    a = (a, )",
    "a deep key": "a = 0\nfor i in range(100000):\n    a = (a, )\nb = {a: 1}",
    "a round of many digits": "a = round(5, -10**9)\nmodel['head']['decoder']['heatmap_size'] = a",
    "a number in text": "model['head']['decoder']['heatmap_size'] = int('9' * 900)",
    "a long text in a loop": "for i in range(10**5):\n    a = '" + "x" * 500_000 + "'",
    "a long text compared in a loop": "a = 'x' * 10**6\nb = a + 'y'\nfor i in range(10**5):\n    d = a == b",
    "a long text sought in a list": "a = 'x' * 10**6\nb = [a + 'y'] * 10**5\nfor i in range(99):\n    d = a + 'z' in b",
    "a long tuple as a key": "a = (1, ) * 10**5\nb = {}\nfor i in range(10**5):\n    b[a] = 1",
    "a call with a long lambda": "for i in range(10**5):\n    f(lambda: [" + "1, " * 20_000 + "])",
    "a long function in a loop": "for i in range(10**5):\n    def f():\n        return [" + "1, " * 20_000 + "]",
    "many imports in a loop": "for i in range(10**5):\n    from x import (" + "a, " * 20_000 + ")",
    "many names in a loop": "for i in range(10**5):\n    (" + ", ".join(f"a{i}" for i in range(9000)) + ") = unknown",
    "a long name of a base": "_base_ = '" + "_runtime" * 100_000 + "'",
    "a name of a base that no file can have": "_base_ = '" + "x" * 900 + "'",
    "another name for open": "dict = open\nmodel = dict('/etc/passwd')",
    "eval": "model = eval('1')",
    "exec in a class": "class A:\n    exec('1')\nmodel['head']['decoder'] = A",
    "import by name": "model['head'] = __import__('os').system('touch {canary}')",
    "os.system": "import os\nmodel['head'] = os.system('touch {canary}')",
    "the environment": "import os\nmodel['head']['decoder']['heatmap_size'] = os.environ['HOME']",
    "a template of the environment": "model['head']['decoder']['heatmap_size'] = '{{ $HOME:1 }}'",
    "attributes of a literal": "model['head'] = ().__class__.__base__.__subclasses__()",
    "attributes of a text": "model['head'] = 'x'.__class__.__mro__",
    "a decorator": "import os\n@os.system\ndef f():\n    pass\nmodel['head'] = f",
    "a lambda": "model['head'] = (lambda: 1)()",
    "a function that changes the model": "def f(x):\n    x['head'] = 1\nf(model)",
    "a function that changes the model by its name": "def f():\n    model['head'] = 1\nf()",
    "a try that changes the model": "try:\n    model['head'] = 1\nexcept Exception:\n    pass",
    "a while": "while True:\n    model['head'] = 1",
    "a package as a base": "_base_ = 'os::x.py'",
    "a package with a path": "_base_ = '../../../x::y.py'",
    "a device as a base": "_base_ = '/dev/zero'",
    "a pipe as a base": "_base_ = './fifo'",
    "a folder as a base": "_base_ = './'",
    "a large base": "_base_ = './large.py'",
    "a base with a null byte in its name": "_base_ = 'a\\0b.py'",
    "bases in a circle": "_base_ = './circle.py'",
    "itself as a base": "_base_ = './config.py'",
    "many bases": "_base_ = ['./empty.py'] * 1000",
    "a base from a call": "_base_ = open('x').read()",
    "bases that merge sixty times two": "_base_ = './laughs.py'\na = {}\nfor i in range(60):\n    a = dict(x=a, y=a)",
    "a data set file that is a device": "train_dataloader['dataset']['metainfo'] = dict(from_file='/dev/zero')",
    "a data set file that is none": "train_dataloader['dataset']['metainfo'] = dict(from_file='/etc/passwd')",
}  # fmt: skip


def laughs(before: str, after: str) -> str:
    """Nine levels of nine aliases each."""
    levels = ((i, ", ".join([f"*a{i - 1}"] * 9)) for i in range(1, 10))
    return "".join(f"A{i}: &a{i} {before}{aliases}{after}\n" for i, aliases in levels)


TEXTS = {
    "parentheses": "(" * 50_000,
    "parentheses that close": "a = " + "(" * 50_000 + ")" * 50_000,
    "brackets in many lines": "a = " + "[\n" * 5_000 + "]\n" * 5_000,
    "a sum of many terms": "a = " + "+".join(["1"] * 100_000),
    "minus signs": "a = " + "-" * 100_000 + "1",
    "nots": "a = " + "not " * 100_000 + "1",
    "attributes": "a = b" + ".c" * 100_000,
    "calls": "a = b" + "()" * 100_000,
    "subscripts": "a = b" + "[0]" * 100_000,
    "lambdas": "a = " + "lambda: " * 50_000 + "1",
    "elifs": "if a:\n  pass\n" + "elif a:\n  pass\n" * 50_000,
    "an f-string of a long sum": "a = f'{" + "+".join(["1"] * 50_000) + "}'",
    "a long tuple": "a = [" + "[]," * 300_000 + "]",
    "quotes": "'''\\" * 200_000,
    "single quotes": "'\\" * 200_000,
    "braces": "a = '" + "{{" * 200_000 + "'",
    "templates": "a = " + "{{$a:" * 100_000,
    "a null byte": "model = 1\n\0",
    "not UTF-8": b"model = 1\n\xff\xfe",
    "a large file": "a = 1\n" * 300_000,
    "a number of many digits": "a = " + "9" * 100_000,
    "a hexadecimal number of many digits": "a = 0x" + "f" * 500_000,
    "indentation": "".join(" " * i + "if a:\n" for i in range(200)),
    "YAML: billion laughs": "MODEL: &a0 [x]\n" + laughs("[", "]"),
    "YAML: merged laughs": "A0: &a0 {x: 1}\n" + laughs("{<<: [", "]}"),
    "YAML: an alias of itself": "MODEL: &a [*a]\n",
    "YAML: deep": "MODEL: " + "[" * 100_000,
    "YAML: long": "MODEL:\n" + "- 1\n" * 200_000,
    "YAML: a base 60 number": "MODEL: " + ":".join(["1"] * 300_000),
    "YAML: a Python object": "MODEL: !!python/object/apply:os.system ['touch {canary}']",
    "JSON: deep": '{"a":' + "[" * 100_000,
}  # fmt: skip


def write(folder: Path, name: str) -> Path:
    """The hostile file, with what it builds on."""
    canary = str(folder / "canary")
    (folder / "circle.py").write_text("_base_ = './circle2.py'")
    (folder / "circle2.py").write_text("_base_ = './circle.py'")
    (folder / "large.py").write_text("a = 1\n" * 300_000)
    (folder / "empty.py").write_text("")
    (folder / "laughs.py").write_text("a = {}\nfor i in range(60):\n    a = dict(x=a, y=a)")
    if not (folder / "fifo").exists():
        os.mkfifo(folder / "fifo")
    suffix = {"YAML": "yaml", "JSON": "json"}.get(name[:4], "py")
    path = folder / f"config.{suffix}"
    content = TEXTS[name] if name in TEXTS else COMPLETE + LINES[name]
    if name in LINES and LINES[name].startswith("_base_"):
        content = LINES[name] + COMPLETE
    path.write_bytes(content if isinstance(content, bytes) else content.replace("{canary}", canary).encode())
    return path


def attempts(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """For the sandbox: read every hostile file."""
    import yaml  # noqa: F401 - so that reading a file imports nothing

    for name in (*LINES, *TEXTS):
        path = write(folder, name)
        yield name, lambda path=path: read_description(path).source


@pytest.fixture(scope="module")
def outcomes(in_sandbox: Callable[..., Outcomes], tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    folder = tmp_path_factory.mktemp("hostile")
    found = in_sandbox(__file__, folder)
    assert not (folder / "canary").exists()
    return found


@pytest.mark.parametrize("name", [*LINES, *TEXTS])
def test_refused(outcomes: Outcomes, name: str) -> None:
    message, seconds, megabytes = outcomes[name]
    suffix = {"YAML": "yaml", "JSON": "json"}.get(name[:4], "py")
    assert re.search(rf"(config|large)\.{suffix}", message) and len(message) < 3000, message[:3000]
    assert not message.startswith(("accepted", "Memory", "Recursion", "Type", "Harm", "ended")), message
    assert re.search(r"\.(py|yaml|json):\d+: ", message), message
    assert seconds < SECONDS and megabytes < MEGABYTES, (seconds, megabytes)


def test_a_complete_config_is_accepted(tmp_path: Path) -> None:
    """So that the hostile lines above are what is refused."""
    (tmp_path / "config.py").write_text(COMPLETE)
    assert read_description(tmp_path / "config.py").contract is not None


@pytest.mark.parametrize(
    "line",
    [
        "import os\nos.system('touch {canary}')",
        "import missing_package.x as y\ndata_root = y.where()",
        "custom_imports = dict(imports=['os'])",
        "import os\nwork_dir = os.environ['HOME']",
        "def f():\n    open('{canary}', 'w')\nresult = f()",
        "data_root = open('{canary}', 'w')",
        "ann_file = '%s' % data_root",
        "wide = f'{1:2000000000d}'",
    ],
)
def test_what_is_not_needed_is_neither_run_nor_refused(tmp_path: Path, line: str) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "config.py").write_text(line.replace("{canary}", str(canary)) + COMPLETE)
    assert read_description(tmp_path / "config.py").contract is not None
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["fifo", "folder", "missing", "device"])
def test_no_regular_file(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / "config.py"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(ConfigError, match="config.py|/dev/zero"):
        read_description(path)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"V", "endless line"),  # a text that ends with its line
        (b"\x80\x04\x8d" + (3 << 30).to_bytes(8, "little"), "3221225472 bytes"),  # BINUNICODE8
        (b"\x80\x04B" + (1 << 31).to_bytes(4, "little"), "2147483648 bytes"),  # BINBYTES
    ],
)
def test_a_pickle_that_ends_in_gigabytes_of_zeros(tmp_path: Path, head: bytes, said: str) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(head)
    os.truncate(path, 6 << 30)  # no byte of them is on the disk
    before = peak_mb()
    with path.open("rb") as file, pytest.raises(ConfigError, match=said):
        pickles.load(file, "a.pth")
    after = peak_mb()
    assert before is None or after is None or after - before < 100
