"""The gate's result as sentences and formatted figures, the same in the terminal, the JSON and the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ...runtime.accuracy.drift import DARK_PEOPLE, JUMP
from ...runtime.accuracy.gate import HEATMAP_BOUND
from ...runtime.accuracy.verdict import Parity, Row

_UNUSED = {"failed": "failed", "undecided": "is undecided"}
JUMP_NOTE = f"A joint jumps where it moves by more than {JUMP:.4g} of the crop's longer side: to another peak."


def headline(parity: Parity) -> str:
    """The verdict in one sentence, with its figures; a second one names what is not used on this machine."""
    unused = [row for row in parity.rows[1:] if not row.counts and row.verdict in _UNUSED]
    rows = [row for row in parity.rows[1:] if row not in unused]
    more = (f" {row.key} {_UNUSED[row.verdict]} and will not be used." for row in unused)
    return _sentence(parity, rows) + "".join(more)


def _sentence(parity: Parity, rows: Sequence[Row]) -> str:
    model = reference_name(parity)
    people, whole = subjects(parity), f"{number(parity.rows[0].accuracy, '{:.4f}')} {parity.metric}"
    failed = [row for row in rows if row.verdict == "failed"]
    if failed:
        more = f" {len(failed)} of {len(rows)} graphs failed." if len(rows) > 1 else ""
        if broken := [row for row in failed if row.reason]:
            return f"{broken[0].key} could not be evaluated: {broken[0].reason}.{more}"
        if far := _moved_too_far(parity, failed):
            allowed = f"{number(parity.max_drift)} px are allowed"
            least = drift_bounds_text(far)
            moved = f"{far.key} moves 5 % of the joints by {number(far.pixel_drift_p95)} px or more"
            return f"{moved} (95 % bounds {least}) on {people}; {allowed}.{more}"
        worst = max(failed, key=lambda r: (r.accuracy_drop if r.accuracy_drop is not None else -1.0, r.heatmap_error))
        if worst.accuracy_drop is None:
            return (
                f"The outputs of {worst.key} differ from {model}'s by {worst.heatmap_error:.2g} (relative "
                f"L2 error); {HEATMAP_BOUND[worst.precision]:g} is allowed for {worst.precision}.{more}"
            )
        lost = f"{worst.key} loses {worst.accuracy_drop:.4f} of {whole}{_interval(worst)} on {people}"
        return f"{lost}; {parity.max_drop:g} is allowed.{more}"
    if open_rows := [row for row in rows if row.verdict == "undecided"]:
        return _undecided(parity, open_rows)
    if not rows:
        return f"Only {model} was measured."
    if parity.verdict == "unproven":
        worst = max(rows, key=lambda r: r.heatmap_error)
        return (
            f"{parity.metric} was not measured. The outputs of every graph agree with {model}'s within the bound for "
            f"its precision: the largest relative error is {worst.heatmap_error:.2g} ({worst.key}), on {people}."
        )
    worst = max(rows, key=lambda r: r.accuracy_drop or 0.0)
    far = max(rows, key=lambda r: r.pixel_drift_p95)
    lost = (
        f"the largest loss is {worst.accuracy_drop:.4f}{_interval(worst)}, of {worst.key}"
        if worst.accuracy_drop and worst.accuracy_drop > 0
        else "no graph loses any"
    )
    least = number(far.pixel_drift_p95).removeprefix("<")
    moved = "do not move" if far.pixel_drift_p95 == 0 else f"move by less than {least} px ({far.key})"
    kept = f"Every graph keeps the {parity.metric} of {model}, {number(parity.rows[0].accuracy, '{:.4f}')} on {people}"
    return f"{kept}: {lost}; {parity.max_drop:g} is allowed. 95 % of the joints {moved}."


def _moved_too_far(parity: Parity, failed: Sequence[Row]) -> Row | None:
    """The row that moves joints farthest, if one does so for certain and none lost more accuracy than is allowed."""
    if parity.max_drift is None or any(_lost_too_much(parity, row) for row in failed):
        return None
    return max(failed, key=lambda r: r.pixel_drift_p95)


def _lost_too_much(parity: Parity, row: Row) -> bool:
    """Whether a failed row would have failed without `max_drift`."""
    if row.loss_bounds is None or row.accuracy_drop_interval is None:
        return row.accuracy is not None or not row.heatmap_error <= HEATMAP_BOUND[row.precision]
    return max(row.loss_bounds[0], row.accuracy_drop_interval[0]) > parity.max_drop


def _undecided(parity: Parity, rows: Sequence[Row]) -> str:
    """What the labels say where they cannot tell, and how many would."""
    by_loss = [row for row in rows if not row.loss_bounds or row.loss_bounds[1] > parity.max_drop]
    if not by_loss and parity.max_drift is not None:
        return _undecided_drift(parity, rows)
    rows = by_loss
    worst = max(rows, key=lambda r: r.loss_bounds[1] if r.loss_bounds else math.inf)
    names = worst.key + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")
    asked = f"whether {names} lost more than the allowed {parity.max_drop:g} of {parity.metric}"
    seen = f"{subjects(parity)} cannot tell {asked}"
    if not finite(worst.loss_bounds):
        return f"{seen}: they are in one image. Give labelled images, --annotations and --images."
    low, high = map(signed, worst.loss_bounds)
    counts = [row.people_needed for row in rows]
    more = (
        f"About {max(c for c in counts if c is not None)} would; or allow"
        if None not in counts
        else "The loss is so near to what is allowed that more labels would not tell either: allow"
    )
    return f"{seen}: the loss lies between {low} and {high} (95 % bounds). {more} more with --max-drop."


def _undecided_drift(parity: Parity, rows: Sequence[Row]) -> str:
    worst = max(rows, key=lambda r: r.pixel_drift_p95)
    seen = (
        f"{subjects(parity)} cannot tell whether {worst.key} moves 95 % of the joints by at most "
        f"{number(parity.max_drift)} px: the 95th percentile is {number(worst.pixel_drift_p95)} px "
        f"(95 % bounds {drift_bounds_text(worst)})"
    )
    counts = [row.people_needed for row in rows if row.people_needed is not None]
    more = f"About {max(counts)} would" if len(counts) == len(rows) else "No number of labels is known to be enough"
    return f"{seen}. {more}; or allow more with --max-drift."


def subjects(parity: Parity) -> str:
    """How many were measured, such as "22 instances"; `data` of older builds does not say what they are called."""
    count = parity.data["people"]
    return f"1 {subject(parity)}" if count == 1 else f"{count} {parity.data.get('subjects', 'people')}"


def subject(parity: Parity) -> str:
    """What one of them is called: "person" or "instance"."""
    return "instance" if parity.data.get("subjects") == "instances" else "person"


def jitter_note(parity: Parity) -> str:
    """How much the joints tremble, by graph; empty where the frames are not of labelled videos."""
    measured = [(row.key, row.acceleration_error) for row in parity.rows if row.acceleration_error is not None]
    if not measured:
        return ""
    told = ", ".join(f"{key} {number(error)}" for key, error in measured)
    return f"Jitter, the mean error of the joints' acceleration in px of the frame per frame²: {told}."


def drift_note(parity: Parity) -> str:
    """How drift is measured; another decode rule gives other distances for the same heatmaps."""
    rule = f", decoded by the contract's rule {parity.data['decode']!r}" if "decode" in parity.data else ""
    return f"distance of the joints from those of {reference_name(parity)} in px of the frame{rule}"


def drift_bounds_text(row: Row) -> str:
    """The bounds of a row's p95 drift in px, or a dash."""
    return " to ".join(map(number, row.pixel_drift_p95_bounds)) if finite(row.pixel_drift_p95_bounds) else "–"


def share(value: float | None) -> str:
    """A share of joints in per cent, or a dash."""
    return number(value, "{:.2%}" if value is None or value < 0.0995 else "{:.1%}")


def height_classes(parity: Parity) -> list[tuple[str, str]]:
    """Name and number of people of each class of height, such as ("64-128 px", "12"); empty if it was not measured."""
    first = next((row.drift_by_height for row in parity.rows if row.drift_by_height), ())
    edges = ["", *(str(one.below) for one in first if one.below is not None)]
    names = [f"{low}-{one.below}" if low else f"<{one.below}" for low, one in zip(edges, first, strict=False)]
    if first:
        names[-1] = f"{edges[-1]}+"
    return [(name, str(one.people)) for name, one in zip(names, first, strict=True)]


def dark_note(parity: Parity) -> str:
    """What DARK stands for in the tables; empty where one rule alone was measured."""
    rule = parity.data.get("dark")
    if not rule:
        return ""
    return (
        f"DARK is the same by the rule {rule!r}, which shows moves that a rule with steps hides; measured on "
        f"about {DARK_PEOPLE} at most."
    )


def reference_name(parity: Parity) -> str:
    """What all graphs are compared with."""
    return "the PyTorch model" if parity.rows[0].backend == "pytorch" else "the ONNX file"


def limits(parity: Parity, meta: Mapping[str, Any]) -> list[str]:
    """The limits of the figures."""
    texts = [str(parity.data["note"])] if parity.data.get("note") else []
    texts += [f"{row.key} could not be evaluated: {row.reason}." for row in parity.rows if row.reason]
    if parity.rows[0].accuracy is None:
        texts.append(
            "Accuracy on labelled images was not measured, so no graph is shown to be as accurate as the reference."
        )
    if parity.rows[0].accuracy is not None:
        texts.append(
            f"The verdict rests on the loss of {parity.metric} without its steps: the share of all thresholds that are "
            "passed, not of a few. Each bound is wrong on at most 5 % of test sets."
        )
        if parity.max_drift is None:
            texts.append("Drift is shown and not judged: --max-drift PX judges it.")
        texts.append("Crops were cut at the annotated boxes. With a detector's boxes every graph is less accurate.")
    backends = ", ".join(sorted({row.backend for row in parity.rows[1:]})) or "PyTorch only"
    return [
        *texts,
        f"Measured on this machine with {backends}. Other processors round differently: check on them with "
        f"`posert verify {meta.get('bundle', 'BUNDLE')}`.",
        f"ms per {subject(parity)} is the median during this check, with whatever else ran on the machine; it is not a "
        "benchmark.",
    ]


def joint_drift(drift: NDArray[np.float32]) -> list[float]:
    """95th percentile of the drift of each joint, px of the frame; NaN for a joint that is never labelled."""
    found = [d[np.isfinite(d)] for d in np.asarray(drift, np.float64).T]
    return [float(np.quantile(d, 0.95)) if d.size else math.nan for d in found]


def number(value: float | None, form: str = "") -> str:
    """A figure for a table: three significant digits, or a dash where nothing was measured."""
    if value is None or not math.isfinite(value):
        return "–"
    if form:
        return form.format(value)
    if abs(value) < 0.001:
        return "<0.001" if value else "0"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def finite(ends: tuple[float, float] | None) -> TypeGuard[tuple[float, float]]:
    """Whether both bounds are known."""
    return ends is not None and all(map(math.isfinite, ends))


def bounds_text(row: Row) -> str:
    """The bounds of a row's loss without steps, or a dash."""
    return " to ".join(map(signed, row.loss_bounds)) if finite(row.loss_bounds) else "–"


def interval_text(row: Row) -> str:
    """The interval of a row's AP drop, or a dash."""
    return " to ".join(map(signed, row.accuracy_drop_interval)) if row.accuracy_drop_interval else "–"


def signed(value: float | None) -> str:
    """An AP difference, or a dash; zero after rounding has no sign."""
    text = number(value, "{:+.4f}")
    return "0.0000" if text in ("+0.0000", "-0.0000") else text


def _interval(row: Row) -> str:
    return f" (95 % interval {interval_text(row)})" if row.accuracy_drop_interval else ""
