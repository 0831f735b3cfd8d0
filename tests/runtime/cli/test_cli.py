"""The command line as a shell sees it: exit statuses, what goes to which stream, and words that help."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from posert.runtime.cli import main as cli
from posert.runtime.cli.main import COMMANDS, main
from posert.runtime.errors import BundleError, GateError, PosertError

ROOT = Path(__file__).parents[3]


def posert(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "posert.runtime.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)


def test_without_arguments_it_lists_its_commands() -> None:
    done = posert()
    assert done.returncode == 0 and not done.stderr
    assert all(f"  {name}" in done.stdout and summary in done.stdout for name, (_, summary) in COMMANDS.items())
    assert posert("--help").stdout == done.stdout


def test_an_unknown_command_offers_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["biuld", "--arch", "hrnet_w32"]) == 2
    seen = capsys.readouterr()
    assert seen.err.startswith("posert: unknown command 'biuld'. Did you mean build") and not seen.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-such-option"], "unknown option --no-such-option"),
        (["biuld"], "unknown command 'biuld'. Did you mean build"),
        (["inspect", "x.pose", "--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["inspect"], "the following arguments are required: bundle; see posert inspect --help"),
    ],
)
def test_usage_errors_are_told_like_all_others(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    seen = capsys.readouterr()
    assert said in seen.err and not seen.out
    assert "usage: posert" in seen.err or arguments == ["biuld"]
    assert main([*arguments, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)
    assert said in error["error"] and error["kind"] == "UsageError"


def test_options_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("-x", "--json"):
        assert main([option]) == 2
        assert f"unknown option {option}: those of a command stand behind its name" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"posert {metadata.version('posert')}; reads and writes bundles of schema 1\n"


def test_help_speaks_to_users(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert "2D human-pose model" in out and "--version" in out and "The command line:" not in out


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_that_the_terminal_cannot_show(narrow_bundle: Path, tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "sp ace ü" / "m ö.pose"
    path.parent.mkdir()
    shutil.copy(narrow_bundle, path)
    done = subprocess.run(
        [sys.executable, "-m", "posert.runtime.cli", "inspect", str(path)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        timeout=120,
    )
    assert done.returncode == 0 and not done.stderr
    assert str(path).encode(encoding, "backslashreplace") in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's /dev/full")
@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("unbuffered", ["", "1"])  # fails at the end, or in the midst of the command
def test_standard_output_on_a_full_disk(narrow_bundle: Path, there: bool, more: list[str], unbuffered: str) -> None:
    path = narrow_bundle if there else narrow_bundle.with_name("none.pose")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "posert.runtime.cli", "inspect", str(path), *more],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            text=True,
            timeout=120,
        )
    assert done.returncode == 2 and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert ("standard output" if there else "no such file") in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_summary_and_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert f"usage: posert {name}" in out and "--json" in out
    assert COMMANDS[name][1] in " ".join(out.split())


def test_a_mistake_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = posert("inspect", str(tmp_path / "none.pose"), "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)
    assert error["kind"] == "BundleError" and "no such file" in error["error"]
    assert done.stderr.startswith("posert inspect: ") and "Traceback" not in done.stderr


class TestStatus:
    """One command whose end is chosen by the test, through the real entry point."""

    @pytest.fixture
    def end_with(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        def use(end: Any) -> None:
            def run(args: Any) -> int:
                if isinstance(end, BaseException):
                    raise end
                if args.json:
                    print(json.dumps({"fine": True}))
                return int(end)

            command = SimpleNamespace(add_arguments=lambda parser: None, main=run)
            monkeypatch.setitem(cli.COMMANDS, "planted", ("planted_module", "for the test"))
            monkeypatch.setitem(sys.modules, "planted_module", command)

        return use

    @pytest.mark.parametrize(
        ("end", "status"),
        [
            (0, 0),
            (1, 1),
            (GateError("AP fell"), 1),
            (PosertError("no"), 2),
            (BundleError("no"), 2),
            (OSError(28, "No space left on device"), 2),
            (KeyboardInterrupt(), 130),
        ],
        ids=repr,
    )
    def test_ends(self, end_with: Any, capsys: pytest.CaptureFixture[str], end: Any, status: int) -> None:
        end_with(end)
        assert main(["planted"]) == status
        seen = capsys.readouterr()
        assert not seen.out
        assert seen.err.startswith("posert planted: ") == isinstance(end, BaseException)
        assert str(end) in seen.err or not isinstance(end, BaseException)

    @pytest.mark.parametrize("end", [0, GateError("AP fell"), OSError(28, "No space left")], ids=repr)
    def test_json_is_alone_on_stdout(self, end_with: Any, capsys: pytest.CaptureFixture[str], end: Any) -> None:
        end_with(end)
        main(["planted", "--json"])
        result = json.loads(capsys.readouterr().out)
        if end == 0:
            assert result == {"fine": True}
        else:
            assert result["error"].startswith(str(end)) and result["kind"] == type(end).__name__

    def test_a_fault_of_ours_is_shown_and_is_no_verdict(
        self, end_with: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Python's own status for a traceback is 1, which says that accuracy fell."""
        end_with(ZeroDivisionError("bug"))
        assert main(["planted"]) == 70
        seen = capsys.readouterr()
        assert not seen.out and "Traceback" in seen.err and "ZeroDivisionError: bug" in seen.err
        assert "fault of posert" in seen.err


@pytest.mark.parametrize(
    ("command", "library", "extra"),
    [("build", "rich", "export"), ("build", "torch", "export")],
)
def test_a_missing_library_says_the_pip_line(command: str, library: str, extra: str) -> None:
    """In a process where the library cannot be imported, as on an edge device."""
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        f"from posert.runtime.cli.main import main\nsys.exit(main([{command!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert f"needs the Python package '{library}'" in done.stderr and 'pip install "posert[export]"' in done.stderr


def test_commands_of_the_edge_need_no_export() -> None:
    """inspect, run and verify start where torch, onnx, yaml and rich are not installed."""
    for name in ("inspect", "run", "verify"):
        code = (
            "import sys\nfor m in ('torch', 'onnx', 'yaml', 'rich', 'pycocotools'): sys.modules[m] = None\n"
            f"from posert.runtime.cli.main import main\nsys.exit(main([{name!r}, '--help']))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
