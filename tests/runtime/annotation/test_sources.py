"""Which sources are found, in which order, and each once."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from posert.runtime.annotation.plan import Plan
from posert.runtime.annotation.sources import Found, find
from posert.runtime.errors import InputError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "in"
    for name in (
        "b.jpg",
        "a.PNG",
        "sub/c.jpg",
        "sub/z.mp4",
        "a.mkv",
        "shards/0.tar",
        "notes.txt",
        ".x.jpg",
        ".h/d.jpg",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return root


def short(found: list[Found], root: Path) -> list[tuple[str, str, list[str]]]:
    return [(f.kind, os.path.relpath(f.path, root), f.names) for f in found]


def test_a_folder_gives_all_below_it(tree: Path) -> None:
    assert short(find(["in"]), tree) == [
        ("images", ".", ["a.PNG", "b.jpg", "sub/c.jpg"]),
        ("video", "a.mkv", []),
        ("tar", "shards/0.tar", []),
        ("video", "sub/z.mp4", []),
    ]


def test_each_file_comes_once_however_it_is_named(tree: Path) -> None:
    (tree / "list").write_text(f"{tree}/b.jpg\n\nin/./sub/c.jpg\nin/sub/z.mp4\n")
    found = find(["in/b.jpg", "in/*.jpg", "in/sub", "in", "in/sub/../a.mkv"], str(tree / "list"))
    assert short(found, tree) == [
        ("images", ".", ["b.jpg"]),
        ("images", "sub", ["c.jpg"]),
        ("video", "sub/z.mp4", []),
        ("images", ".", ["a.PNG"]),
        ("video", "a.mkv", []),
        ("tar", "shards/0.tar", []),
    ]


def test_a_pattern_goes_into_folders(tree: Path) -> None:
    assert short(find(["in/**/*.mp4"]), tree) == [("video", "sub/z.mp4", [])]


def test_a_file_of_unknown_ending_is_a_video(tree: Path) -> None:
    assert short(find(["in/notes.txt"]), tree) == [("video", "notes.txt", [])]


def test_standard_input(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("in/a.mkv\r\nin/sub\n"))
    assert [f.kind for f in find([], "-")] == ["video", "images", "video"]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["in/none.mp4"], "in/none.mp4: no such file or folder"),
        (["in/*.gif"], r"in/\*.gif: matches nothing"),
        (["in/.h"], None),
        (["empty"], "empty: holds no image, video or tar file"),
    ],
)
def test_what_is_wrong_is_named(tree: Path, specs: list[str], message: str | None) -> None:
    (tree.parent / "empty").mkdir()
    if message is None:
        assert find(specs)  # a hidden folder that was named
    else:
        with pytest.raises(InputError, match=message):
            find(specs)


def test_an_empty_folder_is_named_beside_full_ones(tree: Path) -> None:
    (tree.parent / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no image, video or tar file"):
        find(["in", "empty"])
    assert len(find(["in", "in"])) == 4


def test_a_line_of_a_list_is_named(tree: Path) -> None:
    (tree / "list").write_text("in/b.jpg\nin/nobody\n")
    with pytest.raises(InputError, match="list: line 2: in/nobody: no such file or folder"):
        find([], str(tree / "list"))
    with pytest.raises(InputError, match="cannot read the list of sources"):
        find([], str(tree / "none"))


def images(folder: str, *names: str) -> Found:
    return Found("images", folder, list(names))


def test_a_plan_cuts_images_and_only_grows(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "plan.jsonl")
    assert plan.extend([images("/a", *"12345"), images("/b", "1")], 2, None) == 4
    assert [(s.number, s.source, s.names, s.first) for s in plan.shards] == [
        (0, "/a", ("1", "2"), 0),
        (1, "/a", ("3", "4"), 2),
        (2, "/a", ("5",), 4),
        (3, "/b", ("1",), 0),
    ]
    again = Plan(tmp_path / "plan.jsonl")
    assert again.shards == plan.shards
    assert again.extend([images("/a", *"12345")], 2, None) == 0
    assert again.extend([images("/a", *"0123456"), Found("video", "/none.mp4")], 2, None) == 2
    assert [(s.number, s.source, s.names, s.first) for s in again.shards[4:]] == [
        (4, "/a", ("0", "6"), 5),
        (5, "/none.mp4", (), 0),
    ]
    assert Plan(tmp_path / "plan.jsonl").shards == again.shards


@pytest.mark.parametrize("text", ["{", "[]\n", '{"number": 1, "kind": "video", "source": "/a"}\n', '{"x": 1}\n'])
def test_a_damaged_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.jsonl").write_text(text)
    with pytest.raises(InputError, match="not a plan"):
        Plan(tmp_path / "plan.jsonl")
