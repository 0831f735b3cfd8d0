"""Plots put values where they belong; read from the drawn SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from posert.export.report import plots
from posert.export.report.plots import Graph, Point, Series

A, B = Series("a", "fp32"), Series("b", "int8", (2, 2))


def spot(svg: str, tip: str) -> tuple[float, float]:
    """x and y of the marker with a tooltip that begins so."""
    for group in ET.fromstring(svg).iter("g"):
        title, marks = group.find("title"), group.findall(".//use")
        if title is not None and len(marks) == 1 and (title.text or "").startswith(tip):
            return float(marks[0].attrib["x"]), float(marks[0].attrib["y"])
    raise AssertionError(f"nothing is drawn for {tip}")


def outline(svg: str, tip: str) -> list[tuple[float, float]]:
    """Corners of the line or bar with a tooltip that begins so."""
    for group in ET.fromstring(svg).iter("g"):
        title, path = group.find("title"), group.find("path")
        if title is not None and path is not None and (title.text or "").startswith(tip):
            return [(float(x), float(y)) for x, y in re.findall(r"[ML] ([-\d.e]+) ([-\d.e]+)", path.attrib["d"])]
    raise AssertionError(f"nothing is drawn for {tip}")


def tick(svg: str, text: str) -> tuple[float, float]:
    """x and y of a tick's text."""
    (found,) = [e for e in ET.fromstring(svg).iter("text") if e.text == text]
    return float(found.attrib["x"]), float(found.attrib["y"])


GRAPHS = [
    Graph(Series("ref", "reference"), None, None, None, None, None, 40.0),
    Graph(A, 0.0, (-0.002, 0.002), 1.0, (0.1, 3.0), 0.3, 10.0),
    Graph(B, 0.01, (0.005, 0.02), 10.0, None, None, 20.0),
]


def test_the_choice_shows_loss_drift_and_time_of_each_graph_in_its_row() -> None:
    svg = plots.choice(GRAPHS, "PCK@0.05", 0.005, 1.0, "instance")
    unit = (tick(svg, "0.016")[0] - tick(svg, "0.000")[0]) / 0.016
    for tip, value in (("a: +0.0000 [-0.0020, +0.0020]", 0.0), ("b: +0.0100 [+0.0050, +0.0200]", 0.01)):
        assert spot(svg, tip)[0] - tick(svg, "0.000")[0] == pytest.approx(value * unit, abs=0.5)
    (left, _), (right, _) = outline(svg, "b: +0.01")
    assert right - left == pytest.approx(0.015 * unit, abs=0.5)
    for tip, text in (("a: 1 px, by DARK 0.3 px", "1"), ("a by DARK: 0.3 px", "0.3"), ("b: 10 px", "10")):
        (at,) = {x for x, y in [spot(svg, tip)]}
        texts = [e for e in ET.fromstring(svg).iter("text") if e.text == text]
        assert any(abs(at - float(e.attrib["x"])) < 0.5 for e in texts), tip
    rows = [spot(svg, tip)[1] for tip in ("a: +0", "b: +0")]
    assert rows == [spot(svg, tip)[1] for tip in ("a: 1 px", "b: 10 px")] and rows[0] < rows[1]
    assert "10.0 · 4.0x" in svg and "20.0 · 2.0x" in svg and "nan" not in svg


def test_bars_are_as_long_as_their_times() -> None:
    svg = plots.choice(GRAPHS, "AP", 0.005, None, "person")
    drawn = {}
    for path in ET.fromstring(svg).iter("path"):
        if found := re.fullmatch(r"fill: ?var\(--(fp32|int8|reference)\)", path.attrib.get("style", "").strip("; ")):
            xs = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", path.attrib["d"])]
            drawn[found[1]] = max(xs) - min(xs)
    assert drawn["int8"] == pytest.approx(2 * drawn["fp32"], rel=0.01)
    assert drawn["reference"] == pytest.approx(4 * drawn["fp32"], rel=0.01)


def test_without_losses_drift_and_time_are_left() -> None:
    svg = plots.choice([g._replace(loss=None, loss_bounds=None) for g in GRAPHS], "AP", 0.005, None, "person")
    assert "AP lost" not in svg and "p95 of the drift" in svg and "ms per person" in svg


def test_a_curve_rises_where_its_joints_are() -> None:
    svg = plots.cumulative([A], [np.full(9, 0.1)])
    assert {round(x) for x, _ in outline(svg, "a: median 0.1 px")} == {round(tick(svg, "0.1")[0])}


@pytest.mark.parametrize("value", [0.0, 1e-9])
def test_joints_that_did_not_move_are_at_the_left_edge(value: float) -> None:
    svg = plots.cumulative([A], [np.full(5, value)])
    assert "nan" not in svg and {round(x) for x, _ in outline(svg, "a")} == {round(tick(svg, "≤0.001")[0])}


def test_the_allowed_drop_divides_the_tradeoff() -> None:
    points = [Point("a", 8.0, 0.5, (0.4, 0.6), "tried"), Point("b", 9.0, 0.001, (-0.001, 0.003), "best")]
    svg = plots.tradeoff(points, 0.002, "ms", "AP")
    limit = tick(svg, "0.002")[1]
    (ax, ay), (bx, by) = spot(svg, "a: AP lost +0.5000, 8 ms"), spot(svg, "b: AP lost +0.0010, 9 ms")
    assert ay < limit < by + 4 and ax < bx, "what loses too much lies above, what is slower to the right"


def test_ranges_are_as_high_as_their_values() -> None:
    svg = plots.ranges({"a": (0.0, 1.0), "b": (0.0, 10.0), "c": (-10.0, 10.0), "d": (0.0, 0.0)})
    heights = []
    for name in "abcd":
        ys = [y for _, y in outline(svg, f"{name}: ")]
        heights.append(max(ys) - min(ys))
    a, b, c, d = heights
    assert 0 < a < b and c == pytest.approx(2 * b, abs=0.2) and d == 0
    assert "c: -10 to 10" in svg


def test_labels_are_text_even_if_they_look_like_markup_or_formulas() -> None:
    graph = GRAPHS[1]._replace(series=Series("<b>$x^2$ \\frac", "fp32"))
    svg = plots.choice([graph], "metric $y$", 0.005, None, "person")
    texts = [e.text for e in ET.fromstring(svg).iter("text")]
    assert "<b>$x^2$ \\frac" in texts and "metric $y$ lost" in texts
