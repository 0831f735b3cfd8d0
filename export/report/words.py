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

_NAMED = 4  # blocks in a sentence
_DOZEN = 12  # instances from which more did not lower the drift, on photographs (docs/decisions.md)
_ON_STRANGERS = (
    "The ranges were found on synthetic people, as --calib demo asks for: with those of a dozen images of the "
    "network's own kind (--calib, --calib-images) int8 moves the joints less."
)
JUMP_NOTE = f"A joint jumps where it moves by more than {JUMP:.4g} of the crop's longer side: to another peak."


def headline(parity: Parity) -> str:
    """The verdict in one sentence, with its figures; a second one names what is not used on this machine."""
    unused = [row.key for row in parity.rows if row.verdict == "failed" and not row.counts]
    more = f" {' and '.join(unused)} failed and will not be used." if unused else ""
    rows = [row for row in parity.rows[1:] if row.counts or row.verdict != "failed"]
    return _sentence(parity, rows) + more


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
        f"About {max(c for c in counts if c is not None)} would"
        if None not in counts
        else "The loss is so near to what is allowed that no number of labels would"
    )
    return f"{seen}: the loss lies between {low} and {high} (95 % bounds). {more}; or allow more with --max-drop."


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


def int8_verdict(record: Mapping[str, Any]) -> str:
    """What int8 costs and which blocks stay in float, from a bundle's record of its calibration."""
    macs, found = record["int8_macs"], record["search"]
    share = f"{'An unknown share' if macs is None else format(macs, '.1%')} of the multiply-adds are in int8"
    if record.get("on_strangers"):
        share = f"{_ON_STRANGERS} {share}"
    if "reason" in found:
        return f"{share}. Their cost in accuracy was not measured: {found['reason']}."
    metric = found["metric"]
    best, all_int8 = found["steps"][found["best"]], found["steps"][0]
    seen = (
        f"{share}. On {found['people']} instances used neither for calibration nor by the gate, {metric} {_fell(best)}"
        f"{_between(best['interval'])}; a loss of {found['max_drop']:g} is allowed"
    )
    if found.get("max_drift") is not None and best["drift"] is not None:
        seen += (
            f". 95 % of the joints move by at most {number(best['drift'])} px; {found['max_drift']:g} px are allowed"
        )
    if best["ms"] is not None:
        backend = found["backends"]["int8"]
        seen += f". One instance takes {best['ms']:.1f} ms, {found['fp32_ms']:.1f} ms in fp32 ({backend})"
    if not best["blocks"]:
        return f"{seen}. No block has to stay in float."
    names = ", ".join(best["blocks"][:_NAMED]) + (" and others" if len(best["blocks"]) > _NAMED else "")
    stay = "blocks stays" if len(best["blocks"]) == 1 else "blocks stay"
    return (
        f"{seen}. With all blocks in int8, {metric} {_fell(all_int8)}{_moved(found, all_int8)}. "
        f"So {len(best['blocks'])} of {len(found['blocks'])} {stay} in float: {names}."
    )


def settled_text(curve: Sequence[Sequence[float]], settled: bool, people: int) -> str:
    """How far the ranges of so many people who are not alike are from converged, and whether more would help."""
    if people < _DOZEN or not curve:
        count = f"{people} different calibration instance{'s' * (people != 1)}"
        return f"The ranges rest on {count}: {max(_DOZEN - people, 1)} more would help (--calib); a dozen are enough."
    crops, change = curve[-1]
    of = f"to {int(crops)}" + (f" of {people}" if crops < people else "")
    seen = f"The last doubling, {of} calibration instances, changed the ranges by {change:.1%} on average"
    if settled:
        return f"{seen}: more would not be seen in the joints."
    return f"{seen}: twice as many, of poses and scenes that are missing, would bring the joints nearer (--calib)."


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


def _fell(step: Mapping[str, Any]) -> str:
    drop = step["drop"]
    if drop is None:
        return "could not be measured because the graph gives no usable outputs"
    return f"fell by {drop:.4f}" if drop >= 0 else f"rose by {-drop:.4f}"


def _moved(found: Mapping[str, Any], step: Mapping[str, Any]) -> str:
    asked = found.get("max_drift") is not None and step["drift"] is not None
    return f" and 5 % of the joints moved by {number(step['drift'])} px or more" if asked else ""


def _between(interval: Sequence[float] | None) -> str:
    return f" (95 % interval of the loss {signed(interval[0])} to {signed(interval[1])})" if interval else ""


def _interval(row: Row) -> str:
    return f" (95 % interval {interval_text(row)})" if row.accuracy_drop_interval else ""
