"""What int8 costs, as sentences: the same in the terminal, on the page and in the JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .words import number, signed

_NAMED = 4  # blocks in a sentence
_DOZEN = 12  # instances from which more did not lower the drift, on photographs (docs/decisions.md)
_ON_STRANGERS = (
    "The ranges were found on synthetic people, as --calib demo asks for: with those of a dozen images of the "
    "network's own kind (--calib, --calib-images) int8 moves the joints less."
)


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
