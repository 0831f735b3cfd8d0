"""Commands that write, ended or starved at a random moment: nothing half-written or left, and a rerun is equal."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from posert.tests.campaign.case import Case, Defect, Part, Run
from posert.tests.campaign.mutate import change_bytes, pick
from posert.tests.campaign.writers import Command, check_whole, contents, write_commands

_SESSION = ".ses"  # which ONNX Runtime makes in the folder for temporary files
_SLOW = "bench"  # warms up for 15 s
_ENTERED = re.compile(r'entry\.py", line \d+, in main$', re.MULTILINE)
_PATIENCE_S = 20.0  # beyond what the command takes undisturbed, on a machine that runs other things too


class _Uses:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands = write_commands(folder)

    def start(self, command: Command, out: Path, limit_kb: int | None = None) -> subprocess.Popen[str]:
        temporary = out.parent / "tmp"
        temporary.mkdir(exist_ok=True)
        if command.arguments[0] == "sign" and not (out / "copy.pose").exists():
            shutil.copyfile(self.folder / "small.pose", out / "copy.pose")
        line = command.line(out)
        if limit_kb is not None:
            line = ["bash", "-c", f'ulimit -f {limit_kb}; exec "$@"', "-", *line]
        env = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        return subprocess.Popen(
            line, stdout=subprocess.DEVNULL, stderr=pipe, text=True, env=env, start_new_session=True
        )

    def undisturbed(self, command: Command) -> None:
        """Run a command once, to know what it writes and how long it takes."""
        if command.right is not None:
            return
        out = self.folder / f"right{len(os.listdir(self.folder))}"
        out.mkdir()
        begin = time.monotonic()
        _, err = self.start(command, out).communicate(timeout=300)
        command.took, command.right = time.monotonic() - begin, contents(out)
        if not command.right:
            raise RuntimeError(f"{command.arguments[0]} writes nothing: {err[-800:]}")
        shutil.rmtree(out)

    def end(self, process: subprocess.Popen[str], allowed: float) -> str:
        try:
            return process.communicate(timeout=allowed)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            err = process.communicate()[1]
            raise Defect("hang", f"no end after {allowed:.0f} s: {err[-400:]}") from None

    def run(self, case: Case) -> str:
        name = pick(case.rng, list(self.commands))
        if name == _SLOW and case.rng.random() < 0.75:
            name = pick(case.rng, list(self.commands))
        command = self.commands[name]
        self.undisturbed(command)
        out = case.folder / "out"
        out.mkdir()
        ways = {
            "kill": self.signalled,
            "term": self.signalled,
            "int": self.signalled,
            "twice": self.signalled,
            "size": self.starved,
            "disk": self.full,
            "cache": self.without_cache,
            "folder": self.no_folder,
        }
        way = pick(
            case.rng, ("kill", "kill", "term", "term", "int", "twice", "size", "size", "disk", "cache", "folder")
        )
        case.done.append(f"{name} {way}")
        statuses, whole = ways[way](case, command, out, way)
        if whole:
            shutil.rmtree(case.folder / "tmp", ignore_errors=True)
            return f"{way}: not reached"
        if way != "folder":
            check_whole(out)
        self.check_left(case, out, killed=way == "kill")
        if way in ("disk", "folder"):
            shutil.rmtree(case.folder / "tmp", ignore_errors=True)
            return f"{way}: {statuses}"
        err = self.end(self.start(command, out), 10 * command.took + _PATIENCE_S)
        again = contents(out)
        if again != command.right:
            wrong = sorted(k for k in {*again, *command.right} if again.get(k) != command.right.get(k))
            raise Defect(f"a rerun differs: {name}", f"{wrong}: {err[-300:]}")
        if left := [*out.rglob(".*"), *self.temporary(case)]:
            raise Defect("left-over file after a rerun", ", ".join(p.name for p in left))
        shutil.rmtree(case.folder / "tmp")
        return f"{way}: rerun equal"

    def check_left(self, case: Case, out: Path, killed: bool) -> None:
        """Nothing is left but the outputs; of a process that was killed, what the next run removes when it is old."""
        left = [*out.rglob(".*"), *self.temporary(case)]
        if killed:
            for path in left:
                os.utime(path, (time.time() - 120,) * 2)
        elif left:
            raise Defect("left-over file", ", ".join(p.name for p in left))

    def temporary(self, case: Case) -> list[Path]:
        """What commands left in their folder for temporary files."""
        return [p for p in (case.folder / "tmp").iterdir() if p.name != _SESSION]

    def judged(self, err: str, status: int, expected: tuple[int, ...]) -> int:
        if -signal.SIGINT in expected and _before_posert(err):
            return status
        if "Traceback" in err or status not in expected:
            last = (err.strip().splitlines() or [""])[-1]
            raise Defect(f"status {status}", f"expected {expected}: {last[-200:]}\n{err[-700:]}")
        return status

    def signalled(self, case: Case, command: Command, out: Path, way: str) -> tuple[int, bool]:
        number = {"kill": signal.SIGKILL, "int": signal.SIGINT}.get(way, signal.SIGTERM)
        process = self.start(command, out)
        time.sleep(float(case.rng.uniform(0, 1.1 * command.took)))
        for _ in range(2 if way == "twice" else 1):
            os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
            time.sleep(0.02)
        err = self.end(process, 2 * command.took + _PATIENCE_S)
        # Before Python has started there is nobody who would catch a signal.
        ended = {signal.SIGKILL: (-9,), signal.SIGTERM: (143, -15), signal.SIGINT: (130, -2)}[number]
        status = self.judged(err, process.returncode, (0, *ended))
        return status, status == 0 and contents(out) == command.right

    def starved(self, case: Case, command: Command, out: Path, way: str) -> tuple[int, bool]:
        """No file may grow beyond a limit."""
        limit = int(case.rng.choice([0, 1, 2, 4, 8, 16, 32, 64, 128]))
        case.done.append(f"{limit} kB")
        process = self.start(command, out, limit)
        err = self.end(process, 2 * command.took + _PATIENCE_S)
        status = self.judged(err, process.returncode, (0, 1, 2))
        return status, status == 0 and contents(out) == command.right

    def full(self, case: Case, command: Command, out: Path, way: str) -> tuple[int, bool]:
        """The disk is full: a small one of its own, where the system allows to make one."""
        size = int(case.rng.choice([4, 8, 16, 32, 64]))
        case.done.append(f"{size} kB")
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(out)], capture_output=True
        ).returncode:
            return 0, True
        try:
            process = self.start(command, out) if command.arguments[0] != "sign" else None
            if process is None:
                return 0, True
            err = self.end(process, 2 * command.took + _PATIENCE_S)
            status = self.judged(err, process.returncode, (0, 1, 2))
            check_whole(out)
            self.check_left(case, out, killed=False)
            return status, False
        finally:
            subprocess.run(["umount", "-l", str(out)], check=True, capture_output=True)

    def without_cache(self, case: Case, command: Command, out: Path, way: str) -> tuple[int, bool]:
        """The cache is damaged before, or removed while the command runs."""
        cache = Path(os.environ["POSERT_CACHE"])
        if case.rng.random() < 0.5:
            for path in (p for p in cache.rglob("*") if p.is_file()):
                path.write_bytes(change_bytes(case.rng, path.read_bytes(), case.done))
        process = self.start(command, out)
        time.sleep(float(case.rng.uniform(0, command.took)))
        shutil.rmtree(cache, ignore_errors=True)
        err = self.end(process, 2 * command.took + _PATIENCE_S)
        self.judged(err, process.returncode, (0,))
        if contents(out) != command.right:
            raise Defect("other results without a cache", err[-300:])
        return 0, False

    def no_folder(self, case: Case, command: Command, out: Path, way: str) -> tuple[int, bool]:
        """The output is a file's child, a device, or a place where no file can be made."""
        if command.arguments[0] == "sign":
            return 0, True
        (case.folder / "file").write_text("x")
        place = Path(pick(case.rng, (str(case.folder / "file"), "/dev/null", "/proc", "/sys", "/dev/full")))
        case.done.append(str(place))
        process = self.start_at(command, place, case.folder)
        err = self.end(process, 2 * command.took + _PATIENCE_S)
        status = self.judged(err, process.returncode, (2,))
        if place.name not in err:
            raise Defect("names no file: status 2", err[-300:])
        return status, False

    def start_at(self, command: Command, place: Path, folder: Path) -> subprocess.Popen[str]:
        (folder / "tmp").mkdir(exist_ok=True)
        env = {**os.environ, "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command.line(place),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            start_new_session=True,
        )


def _before_posert(err: str) -> bool:
    """Whether an interrupt came while Python itself started, which tells of it in its own ways, such as with status 1.

    From its first line on, posert has a frame of cli/entry.py on the stack.
    """
    return "KeyboardInterrupt" in err and not _ENTERED.search(err) and "Exception ignored" not in err


def open_part(folder: Path) -> Run:
    return _Uses(folder).run


PART = Part(
    "kills",
    "commands that write: killed, terminated, starved of disk, cache or folder",
    500,
    6,
    open_part,
    limit_s=400,
    starts_programs=True,
)
