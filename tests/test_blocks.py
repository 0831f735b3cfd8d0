"""The blocks of a page: what is code, what is its output, and that a page that is wrong fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from posert.tests.blocks import blocks, run, runnable

FENCE = "```"


def page(*parts: str) -> str:
    """Prose and blocks; `bash: echo` is a block."""
    fenced = (f"{FENCE}{language}\n{code}\n{FENCE}" for language, code in (part.split(": ", 1) for part in parts))
    return "\n\n".join(fenced) + "\n"


def test_outputs_belong_to_the_code_above() -> None:
    text = page(
        "bash: echo 1", "text: 1", "text: no library", "python: print(2)", "text: 2", "yaml: a: 1", "text: tree"
    )
    found = blocks(text)
    assert [(b.language, b.prints, b.stops) for b in found if b.language != "text"] == [
        ("bash", "1\n", "no library\n"),
        ("python", "2\n", None),
        ("yaml", None, None),
    ]
    assert [b.line for b in found][:2] == [1, 5] and [b.code for b in runnable(text)] == ["echo 1\n", "print(2)\n"]


@pytest.mark.parametrize("between", ["In words:\n\n", "## Another\n\n"])
def test_a_block_that_is_not_right_below_is_no_output(between: str) -> None:
    first, second = page("bash: echo 1"), page("text: other")
    assert blocks(f"{first}\n{between}{second}")[0].prints is None


def test_an_error_stands_below_the_output_and_before_a_heading() -> None:
    head = page("bash: echo 1", "text: 1")
    error = page("text: gone")
    assert blocks(f"{head}\nWithout the library:\n\n{error}")[0].stops == "gone\n"
    assert blocks(f"{head}\n## Another\n\n{error}")[0].stops is None


def test_a_page_that_says_what_happens(tmp_path: Path) -> None:
    parts = [
        "bash: a=3\necho $a > file\nls\n",
        "text: file\n",
        "python: print(open('file').read(), 0.123)",
        "text: 3 0.1...",
    ]
    run(runnable(page(*parts)), tmp_path, dict(os.environ))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["bash: echo 1", "text: 2"], "expected"),
        (["bash: false\necho 1"], "status 1"),
        (["bash: false | cat"], "status 1"),
        (["bash: echo $nothing"], "status 1"),
        (["python: raise SystemExit('broken')", "text: x", "text: gone"], "broken"),
        (["bash: echo gone >&2", "text: 1", "text: gone"], "expected"),
    ],
)
def test_a_page_that_is_wrong(parts: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=message):
        run(runnable(page(*parts)), tmp_path, dict(os.environ))


def test_the_rest_is_not_run_where_something_is_missing(tmp_path: Path) -> None:
    parts = ["python: raise SystemExit('no GPU: 0 found')", "text: 1", "text: no GPU: ...", "bash: touch after"]
    run(runnable(page(*parts)), tmp_path, dict(os.environ))
    assert not list(tmp_path.iterdir())
