"""How scripts start and end, and results that outlive them."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

import posert.benchmarks
from posert.benchmarks.script import numbers, open_journal, parser, run
from posert.runtime.errors import BackendError, InputError

FOLDER = Path(posert.benchmarks.__file__).parent
SCRIPTS = sorted(p.stem for p in FOLDER.glob("*.py") if '__name__ == "__main__"' in p.read_text())

# All in one process, which imports torch once; `python FILE` puts the folder of the file in front of sys.path.
AS_FILES = """
import runpy, sys
folder, *names = sys.argv[1:]
sys.path[0] = folder
for name in names:
    sys.argv = [name, "--help"]
    try:
        runpy.run_path(f"{folder}/{name}.py", run_name="__main__")
    except SystemExit as end:
        assert not end.code, f"{name} ended with {end.code}"
    else:
        raise AssertionError(f"{name} does nothing")
"""


def test_scripts_run_as_files():
    assert {"accuracy", "peers", "quantizers", "video"} <= set(SCRIPTS)
    done = subprocess.run([sys.executable, "-c", AS_FILES, str(FOLDER), *SCRIPTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(SCRIPTS)
    folders = ["annotate_chaos", "annotate_records", "annotate_simulation"]  # which print, and leave a folder behind
    assert done.stdout.count("--output FILE  ") == len(set(SCRIPTS) - set(folders))


def end(raised: BaseException, output: Path) -> int:
    def work(args: argparse.Namespace) -> int:
        raise raised

    return run(parser("", str(output)), work, [])


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (InputError("the box is empty"), InputError.exit_status, "the box is empty"),
        (BackendError("no GPU"), BackendError.exit_status, "no GPU"),
        (KeyboardInterrupt(), 130, "the same command resumes"),
    ],
)
def test_every_end_is_a_message_and_a_status(
    raised: BaseException, status: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert end(raised, tmp_path / "out.jsonl") == status
    out, err = capsys.readouterr()
    assert out == "" and said in err


def test_a_fault_of_ours_is_not_hidden(tmp_path: Path):
    with pytest.raises(KeyError):
        end(KeyError("nothing"), tmp_path / "out.jsonl")


def test_a_place_that_cannot_be_written_is_told_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert end(KeyError("nothing"), tmp_path) == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "0", "1,-2", "many"])
def test_numbers(text: str):
    assert numbers("1,8") == [1, 8]
    with pytest.raises(argparse.ArgumentTypeError, match="such as 1,8"):
        numbers(text)


def test_a_file_that_is_no_journal_is_not_touched(tmp_path: Path):
    page = tmp_path / "models.md"
    page.write_text("# Every model\n")
    with pytest.raises(InputError, match="remove it or choose another --output"):
        open_journal(page, "models")
    assert page.read_text() == "# Every model\n"


def test_results_of_the_same_key_are_kept(tmp_path: Path):
    path = tmp_path / "new folder" / "rows.jsonl"
    open_journal(path, "models", bundle="a").add({"n": 1})
    assert open_journal(path, "models", bundle="a").records == [{"n": 1}]
    assert open_journal(path, "models", bundle="b").records == []
