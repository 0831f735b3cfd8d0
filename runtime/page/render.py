"""A run's page as text: one HTML file with its style, script and pictures in it."""

from __future__ import annotations

import json
from html import escape

from . import charts
from .charts import number_of
from .collect import Collected, Failure
from .document import document, part, section
from .pictures import FAILED


def render(page: Collected, interrupted: bool) -> str:
    """The whole page."""
    charted = [_viewer(page), _people(page), _joints(page), _speed(page), _figures(page), _failures(page)]
    data = f'<script type="application/json" id="pictures" data-frames="{page.frames}">{_pictures(page)}</script>'
    return document(
        page.program,
        page.title,
        "failed" if page.failed else "interrupted" if interrupted else "done",
        _lead(page),
        [*_tiles(page), *page.tiles],
        [*page.before, *charted, *page.after],
        page.facts,
        scripts=f"{data}\n<script>\n{part('page.js')}</script>\n",
    )


def _seconds(page: Collected) -> float:
    return sum(float(one.sums.sum()) for one in page.stages.values())


def _lead(page: Collected) -> str:
    found = f"{_count(page.people, 'person', 'people')} in {_count(page.frames, 'frame')}"
    if len(page.lanes):
        found += f", {_count(len(page.lanes), 'identity', 'identities')}"
    if page.failed:
        return f"{found}. {_count(page.failed, 'frame')} failed: {page.failures[0].error}."
    return f"{found}. No frame failed."


def _tiles(page: Collected) -> list[tuple[str, str]]:
    good = page.frames - page.failed
    seconds = _seconds(page)
    most = int(page.series.maxima.max(initial=0))
    scores = float(page.series.sums[:, 3:].sum()) / max(1, page.people * page.joints)
    tiles = [
        (f"{page.frames:,}", "frames" + (f", {charts.clock(page.frames / page.fps)}" if page.fps else "")),
        (f"{page.people / max(1, good):.1f}", f"people per frame, {most} at most"),
    ]
    if len(page.lanes):
        tiles.append((f"{len(page.lanes):,}", "identities"))
    tiles += [
        (f"{scores:.2f}" if page.people else "–", "mean score of the joints"),
        (number_of(page.frames / seconds) if seconds else "–", f"frames per second, {charts.clock(seconds)} in all"),
        (f"{page.failed:,}", "frames failed"),
    ]
    return tiles


def _viewer(page: Collected) -> str:
    pictures = page.pictures.all()
    if not pictures:
        return section("Frames", "There is no picture: no frame could be read.", "")
    start = next((place for place, one in enumerate(pictures) if one.people), 0)
    first = pictures[start]
    every = "every frame" if page.pictures.step == 1 else f"every {_ordinal(page.pictures.step)} frame"
    said = f"{_count(len(pictures), 'picture')}: {every}"
    if page.failed:
        said += f", and the first {FAILED} that failed"
    controls = (
        '<div class="controls"><button type="button" id="back" aria-label="previous picture">‹</button>'
        f'<input id="at" type="range" min="0" max="{len(pictures) - 1}" value="{start}" aria-label="picture">'
        '<button type="button" id="on" aria-label="next picture">›</button></div>'
    )
    body = (
        f'<figure><img id="picture" src="{first.source}" alt="a drawn frame">'
        f'<figcaption id="caption">{escape(str(first.key))}</figcaption></figure>{controls}'
    )
    return section("Frames", f"{said}. Step with the arrow keys, or click into a chart.", body, "viewer")


def _pictures(page: Collected) -> str:
    """What the script needs; `<` is escaped, because it could end the element."""
    found = []
    for one in page.pictures.all():
        said = f"frame {one.key}" if isinstance(one.key, int) else str(one.key)
        if page.fps and isinstance(one.key, int):
            said += f" · {charts.clock(one.index / page.fps)}"
        if one.failed:
            said += f" · failed: {one.error}"
        else:
            said += f" · {_count(one.people, 'person', 'people')}"
            said += "" if one.score is None else f" · mean score {one.score:.2f}"
        found.append({"at": one.index, "said": said, "failed": one.failed, "src": one.source})
    return json.dumps(found).replace("<", "\\u003c")


def _people(page: Collected) -> str:
    note = "The most people in a frame (pale), and their mean. Red marks are frames that failed."
    body = charts.people(page.series)
    if len(page.lanes):
        shown = min(charts.LANES, len(page.lanes))
        note += " Below, one lane per identity with its number of frames"
        note += f": the {shown} seen longest of {len(page.lanes):,}." if shown < len(page.lanes) else "."
        body += charts.lanes(page.lanes, page.series)
    return section("People", note, body + _axis(page))


def _joints(page: Collected) -> str:
    if not page.people:
        return ""
    chart, shown = charts.joints(page.contract.keypoints, page.series)
    which = f" The {shown} lowest of {page.joints} joints." if shown < page.joints else ""
    scale = "".join(f'<i class="s{level}"></i>' for level in range(11))
    note = f"The mean score of each joint over time, and over all frames.{which}"
    return section("Joint scores", note, f'{chart}{_axis(page)}<p class="scale">0 {scale} 1</p>')


def _speed(page: Collected) -> str:
    seconds = _seconds(page)
    if not seconds:
        return ""
    rows = []
    stages = {stage: series for stage, series in page.stages.items() if series.sums.any()}
    for number, (stage, series) in enumerate(stages.items()):
        spent = float(series.sums.sum())
        mean, share = 1e3 * spent / page.frames, spent / seconds
        bar = f'<i class="bar stage{number % 8}" style="width:{100 * share:.1f}%"></i>'
        rows.append(
            f'<tr><th><i class="dot stage{number % 8}"></i>{escape(stage)}</th><td>{number_of(mean)} ms</td>'
            f'<td>{100 * share:.0f} %</td><td class="wide">{bar}</td></tr>'
        )
    total = f"<tr><th>all</th><td>{number_of(1e3 * seconds / page.frames)} ms</td><td></td><td></td></tr>"
    table = '<table><thead><tr><th>stage</th><th>per frame</th><th>share</th><th class="wide"></th></tr></thead>'
    note = "Time per frame, by the stage that the run waited for. High peaks are cut."
    body = charts.speed(stages, page.series) + _axis(page)
    return section("Speed", note, f"{body}{table}<tbody>{''.join(rows)}{total}</tbody></table>")


def _figures(page: Collected) -> str:
    if not page.figures:
        return ""
    rows = "".join(
        f"<tr><th>{escape(one.name)}<small>{escape(one.meaning)}, {escape(one.unit)}</small></th><td>"
        + ", ".join(f"{escape(name)} <b>{number_of(value)}</b>" for name, value in one.values.items())
        + "</td></tr>"
        for one in page.figures
    )
    return section("Figures", "", f'<table class="figures"><tbody>{rows}</tbody></table>')


def _failures(page: Collected) -> str:
    if not page.failed:
        return ""
    rows = "".join(f"<tr><th>{escape(_frames_of(one))}</th><td>{escape(one.error)}</td></tr>" for one in page.failures)
    listed = sum(one.frames for one in page.failures)
    note = f"{listed:,} of {page.failed:,}; the results name all." if listed < page.failed else ""
    body = f'<table class="failures"><thead><tr><th>frame</th><th>why</th></tr></thead><tbody>{rows}</tbody></table>'
    return section("Failures", note, body)


def _frames_of(failure: Failure) -> str:
    if failure.frames == 1:
        return str(failure.first)
    return f"{failure.first} to {failure.last}: {failure.frames:,} frames"


def _axis(page: Collected) -> str:
    numbers = charts.axis(page.frames, page.fps)
    return f'<div class="row"><div class="label"></div>{numbers}<div class="value"></div></div>'


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _ordinal(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, 'th') }"
