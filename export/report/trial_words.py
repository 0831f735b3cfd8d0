"""What a trial shows as sentences, the same in the terminal and on the page."""

from __future__ import annotations

from ...runtime.bundle.contract import Contract
from ...runtime.metrics.pck import THRESHOLD
from ..trial import Agreement, Change, Trial

FAR_TWIN = 0.03
"""Of the box's longer side: mirror images of a network with the right pairs lie nearer than this on average.

On eight synthetic people hrnet_demo gives 0.009, pose_resnet_demo 0.014, and hrnet_demo without flip_pairs 0.15."""


def headline(trial: Trial) -> str:
    """What labels say of the contract, in one sentence."""
    judged = trial.judgement
    if judged is None:
        counts = seen(trial.people, trial.images, trial.contract)
        return f"{counts}, without labels: look whether joints, crops and heatmaps are right."
    agreed = f"{seen(judged.people, judged.images, trial.contract)} with labels: {agreement(judged.agreement)}"
    if judged.note:
        return f"{agreed}. Not judged: {judged.note}."
    if not judged.found:
        return f"{agreed}. None of {len(judged.tried)} usual mistakes would improve on it."
    what = "a change" if len(judged.found) == 1 else f"{len(judged.found)} changes"
    return f"{agreed}. With {what} of the contract it would be {agreement(judged.found[-1].after)}."


def seen(count: int, images: int, contract: Contract) -> str:
    """Such as "12 people in 3 images"."""
    one, several = contract.subject
    return f"{count} {one if count == 1 else several} in {images} image{'s' * (images != 1)}"


def agreement(one: Agreement) -> str:
    """Both figures."""
    return f"PCK@{THRESHOLD:g} {one.pck:.3f}, mean distance {percent(one.distance)} of the box"


def gain(change: Change) -> str:
    """What a change gains, with its interval."""
    low, high = (f"{100 * v:.2f}" for v in change.interval)
    test = " of a flip test" if change.kind == "flip test" else ""
    return (
        f"mean distance{test} {percent(change.before.distance)} -> {percent(change.after.distance)} of the box "
        f"(95 % interval of the gain {low} to {high}), PCK@{THRESHOLD:g} {change.before.pck:.3f} -> "
        f"{change.after.pck:.3f}"
    )


def percent(value: float) -> str:
    """Of a fraction, such as "1.25 %"."""
    return f"{100 * value:.2f} %"


def terminal(trial: Trial) -> list[str]:
    """The whole result in a few lines."""
    lines = [headline(trial), *twins(trial)[:1]]
    for change in trial.judgement.found if trial.judgement else ():
        lines += [f"{change.kind}: {change.words}", f"  {gain(change)}", *(f"  {line}" for line in change.lines)]
    return lines


def twins(trial: Trial) -> list[str]:
    """What the mirror images show; the first sentence is the figure."""
    t = trial.twins
    found = [f"Mirror images: joints {percent(t.gap)} of the box from those of the pictures, on average."]
    if t.other_shift is not None:
        state = "true" if trial.contract.flip_shift else "false"
        found.append(f"With flip_shift {'false' if state == 'true' else 'true'} it would be {percent(t.other_shift)}.")
    if t.gap > FAR_TWIN:
        found.append("That is much: flip_pairs may be wrong, or the network knows no mirror images or no such crops.")
    return found
