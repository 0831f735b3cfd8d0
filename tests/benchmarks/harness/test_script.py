"""How scripts end, and rows that outlive them."""

from __future__ import annotations

from pathlib import Path

import pytest

from posert.benchmarks.harness.script import finished, keep, script
from posert.runtime.errors import BackendError, InputError


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (InputError("the box is empty"), InputError.exit_status, "the box is empty\n"),
        (BackendError("no GPU"), BackendError.exit_status, "no GPU\n"),
        (KeyboardInterrupt(), 130, "interrupted; what is finished is kept, and the same command goes on\n"),
    ],
)
def test_every_end_is_a_message_and_a_status(
    raised: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @script(goes_on=True)
    def main() -> int:
        raise raised

    assert main() == status
    assert capsys.readouterr() == ("", said)


def test_a_fault_of_ours_is_not_hidden() -> None:
    @script(goes_on=False)
    def main() -> int:
        return {}["nothing"]

    with pytest.raises(KeyError):
        main()


def test_an_interrupt_promises_nothing_that_is_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    @script(goes_on=False)
    def main() -> int:
        raise KeyboardInterrupt

    assert main() == 130 and capsys.readouterr().err == "interrupted\n"


def test_rows_outlive_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    state = tmp_path / "new folder" / "rows.jsonl"
    assert list(finished(state)) == []
    keep(state, {"key": 1})
    with state.open("a") as file:
        file.write('\n{"key": 2, "val')
    keep(state, {"key": 3})
    with state.open("a") as file:
        file.write("\n7\n")
    assert list(finished(state)) == [{"key": 1}, {"key": 3}]
