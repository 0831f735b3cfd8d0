"""The command line as a shell sees it: help, exit statuses, streams, error messages, and commands found by folder."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from posert.runtime.cli.command import GROUPS, PACKAGES, Command, UsageError, command_modules, load_command
from posert.runtime.cli.main import main
from posert.runtime.errors import BundleError, GateError, PosertError

NAMES = list(command_modules())


def posert(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "posert.runtime.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)


class TestHelp:
    def test_commands_by_group(self) -> None:
        done = posert()
        assert done.returncode == 0 and not done.stderr
        assert posert("--help").stdout == done.stdout
        sections = dict(zip(GROUPS, done.stdout.split("\n\n")[2:], strict=False))
        for name in NAMES:
            command = load_command(name)
            listed = [line.split(maxsplit=1) for line in sections[command.group].splitlines()[1:]]
            assert [name, command.summary] in listed

    @pytest.mark.parametrize("name", NAMES)
    def test_of_a_command(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([name, "--help"]) == 0
        out = capsys.readouterr().out
        assert f"usage: posert {name}" in out and "--json" in out
        assert f"{load_command(name).summary}." in " ".join(out.split())

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        said = f"posert {metadata.version('posert')}; reads and writes bundles of schema 2\n"
        assert capsys.readouterr().out == said

    def test_a_reader_that_stops(self) -> None:
        """As `posert --help | head -1` does."""
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "posert.runtime.cli", "--help"], stdout=writer, stderr=subprocess.PIPE, timeout=120
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b"")


class TestFoundByFolder:
    """A file that appears in a folder of commands is a command; nothing else is touched."""

    FILE = """
import json
from posert.runtime.cli.command import Command

def run(args):
    print(json.dumps(args.word) if args.json else args.word)
    return 1

COMMAND = Command("Repeat a word", "deploy", lambda parser: parser.add_argument("word", help="any"), run)
"""

    @pytest.fixture(params=PACKAGES)
    def folder(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder that belongs to a package of commands, as the package's own does."""
        package = importlib.import_module(request.param)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        for name in ("repeat", "_helper"):
            monkeypatch.delitem(sys.modules, f"{request.param}.{name}", raising=False)
        return tmp_path

    def test_it_is_listed_and_runs(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "repeat.py").write_text(self.FILE)
        (folder / "_helper.py").write_text("raise AssertionError")
        assert main(["--help"]) == 0
        out = capsys.readouterr().out
        assert "  repeat     Repeat a word\n" in out[out.index("deploy") :] and "_helper" not in out
        assert main(["repeat", "hello", "--json"]) == 1
        assert capsys.readouterr().out == '"hello"\n'
        assert main(["repat"]) == 2
        assert "unknown command 'repat'. Did you mean repeat?" in capsys.readouterr().err

    def test_a_file_without_a_command(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "repeat.py").write_text("COMMAND = 'repeat'")
        assert main(["repeat"]) == 2
        assert "repeat defines no COMMAND = Command(...)" in capsys.readouterr().err

    def test_a_name_given_twice(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for name in ("run", "build"):
            (folder / f"{name}.py").write_text(self.FILE)
        assert main(["run"]) == 2
        err = capsys.readouterr().err
        assert all(f"{package}." in err for package in PACKAGES) and "rename one" in err

    def test_an_unknown_group(self) -> None:
        with pytest.raises(PosertError, match="unknown command group 'chek'. Did you mean check"):
            Command("Repeat a word", "chek", lambda parser: None, lambda args: 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["biuld"], "unknown command 'biuld'. Did you mean build?"),
        (["--no-such-option"], "unknown option --no-such-option; options follow a command"),
        (["inspect", "x.pose", "--no-such-option"], "unrecognized arguments: --no-such-option; see posert inspect"),
        (["run", "x.pose", "0", "--ouput", "x"], "unrecognized arguments: --ouput x. Did you mean --output?"),
        (["run", "x.pose", "0", "--out", "x"], "unrecognized arguments: --out x. Did you mean --output?"),
        (["inspect"], "the following arguments are required: bundle; see posert inspect --help"),
        (["run", "x.pose", "0", "--threads", "0"], "expected a whole number of 1 or more, got '0'"),
        (["verify", "x.pose", "--threads", "two"], "expected a whole number of 1 or more, got 'two'"),
        (["verify", "x.pose", "--backend", ","], "expected a comma-separated list, got ','"),
        (["build", "--scales", "s.json"], "--scales is now --calib-cache"),
        (["calibrate", "--scales=s.json"], "--scales is now --output"),
        (["calibrate", "--people", "9"], "--people is now --samples"),
        (["models", "--stages"], "--stages is now --per-stage"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    seen = capsys.readouterr()
    assert message in seen.err and not seen.out
    assert ("usage: posert" in seen.err) == (arguments[0] in NAMES)
    assert main([*arguments, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)
    assert message in error["error"] and error["kind"] == UsageError.__name__


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
@pytest.mark.parametrize("unbuffered", ["", "1"])  # fails at the end, or in the middle of the command
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


def test_an_error_in_a_process_of_its_own(tmp_path: Path) -> None:
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

            command = Command("End", "run", lambda parser: None, run, extra="torch")
            monkeypatch.setattr("posert.runtime.cli.main.load_command", lambda name: command)

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

    def test_a_missing_library_names_the_extra(self, end_with: Any, capsys: pytest.CaptureFixture[str]) -> None:
        end_with(ModuleNotFoundError("No module named 'tor.ch'", name="tor.ch"))
        assert main(["planted"]) == 2
        assert "needs the Python package 'tor', which is not installed: pip install \"posert[torch]\"" in (
            capsys.readouterr().err
        )

    @pytest.mark.parametrize("end", [ZeroDivisionError("bug"), ModuleNotFoundError("posert.x", name="posert.x")])
    def test_an_internal_error_is_not_a_failed_check(
        self, end_with: Any, capsys: pytest.CaptureFixture[str], end: Exception
    ) -> None:
        """Python's own status for a traceback is 1, which means that a check failed."""
        end_with(end)
        assert main(["planted"]) == 70
        seen = capsys.readouterr()
        assert not seen.out and "Traceback" in seen.err and f"{type(end).__name__}: {end}" in seen.err
        assert "internal error" in seen.err

    def test_an_interrupt_that_a_library_turned_into_an_error(
        self, end_with: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As C++ modules do that are interrupted while they are imported."""
        error = ImportError("initialization failed")
        error.__cause__ = KeyboardInterrupt()
        end_with(error)
        assert main(["planted"]) == 130
        assert capsys.readouterr().err == "posert planted: interrupted\n"


class TestEdge:
    """Where only numpy and OpenCV are installed."""

    ABSENT = ("torch", "onnx", "onnxscript", "yaml", "rich", "pycocotools", "scipy", "safetensors", "PIL")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        code = (
            f"import sys\nfor m in {self.ABSENT}: sys.modules[m] = None\n"
            f"from posert.runtime.cli.main import main\nsys.exit(main({arguments!r}))"
        )
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)

    @pytest.mark.parametrize("arguments", [(), *((name, "--help") for name in NAMES)], ids=" ".join)
    def test_help(self, arguments: tuple[str, ...]) -> None:
        done = self.run(*arguments)
        assert done.returncode == 0 and done.stdout.startswith("usage: posert"), done.stderr

    def test_models(self) -> None:
        done = self.run("models", "hrnet_w32")
        assert done.returncode == 0 and "mm_hrnet_w32_coco_256x192" in done.stdout, done.stderr
        assert 'pip install "posert[export]"' in done.stdout

    @pytest.mark.parametrize(
        ("arguments", "extra"),
        [
            (("models", "mspn", "--per-stage"), "export"),
            (("build",), "export"),
            (("calibrate", "--output", "x"), "export"),
        ],
        ids=str,
    )
    def test_what_is_missing(self, arguments: tuple[str, ...], extra: str, tmp_path: Path) -> None:
        done = self.run(*arguments)
        assert done.returncode == 2 and "needs the Python package" in done.stderr
        assert f'pip install "posert[{extra}]"' in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["build", "--help"], ["--version"]])
def test_help_on_a_full_disk(arguments: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "posert.runtime.cli", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 2 and "No space left" in done.stderr


@pytest.mark.parametrize("when", ["while it is imported", "when it is done"])
def test_an_interrupt_before_or_after_the_command(when: str) -> None:
    """By Ctrl-C: no traceback, whatever the interrupted code makes of an exception."""
    script = (
        "import os, signal, sys, threading\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'argparse': os.kill(os.getpid(), signal.SIGINT)\n"
        "if sys.argv.pop() == 'while it is imported':\n"
        "    sys.modules.pop('argparse', None)\n"
        "    sys.meta_path.insert(0, Interrupt())\n"
        "else:\n"
        "    threading._register_atexit(os.kill, os.getpid(), signal.SIGINT)\n"
        "from posert.runtime.cli.entry import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, "--version", when], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
