"""The command line as a shell sees it: exit statuses, what goes to which stream, and words that help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from posert.runtime import cli
from posert.runtime.cli import COMMANDS, main
from posert.runtime.errors import BundleError, GateError, PosertError

ROOT = Path(__file__).parents[2]


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


def test_an_unknown_option(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--no-such-option"], ["inspect", "x.pose", "--no-such-option"], ["inspect"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        seen = capsys.readouterr()
        assert "usage: posert" in seen.err and not seen.out


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
        assert result == ({"fine": True} if end == 0 else {"error": str(end), "kind": type(end).__name__})

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
    [("build", "rich", "export"), ("build", "torch", "export"), ("models", "yaml", "export")],
)
def test_a_missing_library_says_the_pip_line(command: str, library: str, extra: str) -> None:
    """In a process where the library cannot be imported, as on an edge device."""
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        f"from posert.runtime.cli import main\nsys.exit(main([{command!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert f"needs the Python package '{library}'" in done.stderr and 'pip install "posert[export]"' in done.stderr


def test_commands_of_the_edge_need_no_export() -> None:
    """inspect, run and verify start where torch, onnx, yaml and rich are not installed."""
    for name in ("inspect", "run", "verify"):
        code = (
            "import sys\nfor m in ('torch', 'onnx', 'yaml', 'rich', 'pycocotools'): sys.modules[m] = None\n"
            f"from posert.runtime.cli import main\nsys.exit(main([{name!r}, '--help']))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
