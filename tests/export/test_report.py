"""The report says what was measured, in three forms, and needs nothing but itself."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from posert.export.report import plots, plots_int8
from posert.export.report.plots_int8 import Point
from posert.export.report.words import headline, int8_verdict, joint_drift, limits, number, settled_text, signed
from posert.export.report.write import print_blocks, print_table, write_report
from posert.runtime.accuracy.verdict import Parity, Row, Worst
from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset

COCO = dataset("coco")
CONTRACT = Contract(
    dataset="coco",
    keypoints=COCO.keypoints,
    flip_pairs=COCO.flip_pairs,
    skeleton=COCO.skeleton,
    sigmas=COCO.sigmas,
    width=192,
    height=256,
    heatmap_width=48,
    heatmap_height=64,
)
META = {
    "model": "tiny-coco",
    "bundle": "tiny.pose",
    "command": 'posert build --arch <b>"tiny"</b>',
    "weights": {"source": "demo", "sha256": "ab" * 32, "layout": None},
    "versions": {"posert": "0.1.0"},
    "machine": {"cpu": "one", "cores": 2},
    "calibration": {"method": "minmax", "files": {str(i): "x" for i in range(100)}},
    "published": {"AP": 0.746},
}
REFERENCE = Row("fp32", "pytorch", 0.87, None, None, 0.0, 0.0, 0.0, 100.0, 4.2, "reference")
FP32 = Row("fp32", "openvino", 0.87, 0.0, (-1e-6, 1e-6), 1e-5, 1e-4, 1e-6, 50.0, 4.2, "passed")
INT8 = Row("int8", "openvino", 0.868, 0.002, (-0.001, 0.006), 0.1, 0.5, 0.04, 20.0, 1.4, "passed")


def parity(rows: list[Row], verdict: str, note: str = "Demo weights & synthetic <people>") -> Parity:
    rng = np.random.default_rng(0)
    drift = {row.key: rng.gamma(2, 0.1, (40, 17)).astype(np.float32) for row in rows[1:]}
    for values in drift.values():
        values[rng.random(values.shape) < 0.3] = np.nan
        values[:, 4] = np.nan  # a joint that nobody labelled
    xy = rng.uniform(0, 60, (17, 2)).astype(np.float32)
    truth = np.concatenate([xy, np.ones((17, 1), np.float32)], axis=1)
    truth[3] = 0
    image = rng.integers(0, 256, (90, 60, 3), np.uint8)
    worst = [Worst(row.key, image, xy, xy + 3, truth, 4.2) for row in rows[1:]]
    data = {"kind": "demo", "images": 30, "people": 40, "note": note}
    return Parity(rows, verdict, 0.005, data, drift, worst)


PASSED = parity([REFERENCE, FP32, INT8], "passed")
FAILED = parity(
    [REFERENCE, FP32, replace(INT8, ap=0.85, ap_drop=0.02, ap_drop_interval=(0.011, 0.031), verdict="failed")], "failed"
)
_BLANK = {"ap": None, "ap_drop": None, "ap_drop_interval": None}
UNPROVEN = parity(
    [replace(r, **_BLANK, verdict=v) for r, v in ((REFERENCE, "reference"), (INT8, "unproven"))],
    "unproven",
    "no labelled images were given",
)
BROKEN = parity(
    [replace(REFERENCE, **_BLANK), replace(INT8, **_BLANK, heatmap_error=1.4, verdict="failed")], "failed", ""
)
ALL = {"passed": PASSED, "failed": FAILED, "unproven": UNPROVEN, "broken": BROKEN}


class Page(HTMLParser):
    """Checks that tags close in order, and collects text and attributes."""

    VOID = {"meta", "br", "link", "img", "hr"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def pages(folder: Path, result: Parity, meta: dict[str, Any] = META) -> tuple[str, Page, dict[str, Any]]:
    path = write_report(result, CONTRACT, folder / "new", meta)
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html", "report.json"]
    html = path.read_text(encoding="utf-8")
    return html, Page(html), json.loads((path.parent / "report.json").read_text())


@pytest.mark.parametrize("name", ALL)
def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path, name: str) -> None:
    html, page, _ = pages(tmp_path, ALL[name])
    sources = [value for key, value in page.attributes if key in ("src", "href", "xlink:href", "action")]
    assert all(s.startswith(("data:image/jpeg;base64,", "#")) for s in sources)
    bare = re.sub(r"base64,[^\"]*", "", html)
    assert not any(word in bare for word in ("<script", "@import", "url(", "http", "nan"))
    ids = [value for key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    assert {s[1:] for s in sources if s.startswith("#")} == set(ids)


@pytest.mark.parametrize("name", ALL)
def test_page_and_json_say_the_same(tmp_path: Path, name: str) -> None:
    result = ALL[name]
    _, page, values = pages(tmp_path, result)
    assert values["verdict"] == result.verdict
    assert values["headline"] == headline(result) and values["headline"] in page.text
    assert all(text in page.text for text in values["limits"])
    assert [(r["backend"], r["precision"], r["verdict"]) for r in values["rows"]] == [
        (r.backend, r.precision, r.verdict) for r in result.rows
    ]
    for row in result.rows:
        assert row.key in page.text
        assert number(row.ap, "{:.4f}") in page.text


def test_rows_have_the_agreed_fields_the_reference_first(tmp_path: Path) -> None:
    _, _, values = pages(tmp_path, PASSED)
    fields = {"precision", "backend", "ap", "ap_drop", "ap_drop_interval", "pixel_drift_p95", "ms_per_person"}
    assert all(fields | {"size_mb", "verdict"} <= row.keys() for row in values["rows"])
    assert values["rows"][0]["backend"] == "pytorch" and values["rows"][0]["ap_drop"] is None
    assert values["rows"][2]["ap_drop_interval"] == [-0.001, 0.006]
    assert values["joint_drift_p95"]["openvino int8"]["right_ear"] is None
    seen = PASSED.drift["openvino int8"][:, 0]
    expected = np.quantile(seen[np.isfinite(seen)].astype(np.float64), 0.95)
    assert values["joint_drift_p95"]["openvino int8"]["nose"] == pytest.approx(expected)


def test_what_a_user_wrote_is_text_in_the_page(tmp_path: Path) -> None:
    html, page, _ = pages(tmp_path, PASSED)
    assert "<b>&quot;tiny&quot;" not in html
    assert 'posert build --arch <b>"tiny"</b>' in page.text
    assert "Demo weights & synthetic <people>" in page.text
    assert "$" not in page.text


def test_a_bare_report_without_candidates_or_facts(tmp_path: Path) -> None:
    _, page, values = pages(tmp_path, parity([REFERENCE], "unproven"), {})
    assert "Nothing but the PyTorch model" in page.text
    assert values["meta"] == {}


def test_headlines_name_the_row_that_decides() -> None:
    assert "openvino int8 loses most, 0.0020 (95 % interval -0.0010 to +0.0060)" in headline(PASSED)
    assert "loses 0.0200 of 0.8700 AP" in headline(FAILED) and "1 of 2 graphs failed" in headline(FAILED)
    assert "AP was not measured" in headline(UNPROVEN)
    for drift, words in ((0.0, "joints do not move."), (0.0004, "joints move by less than 0.001 px (openvino int8).")):
        moved = [REFERENCE, replace(FP32, pixel_drift_p95=0.0), replace(INT8, pixel_drift_p95=drift)]
        assert headline(parity(moved, "passed")).endswith(f"95 % of the {words}")
    assert "differ from the PyTorch model's by 1.4" in headline(BROKEN)
    better = parity([REFERENCE, replace(FP32, ap=0.88, ap_drop=-0.01)], "passed")
    assert "none loses any" in headline(better)


def test_limits_admit_what_is_not_proven() -> None:
    assert any("reaches beyond the allowed drop" in text for text in limits(PASSED, META))
    assert not any("reaches beyond" in text for text in limits(parity([REFERENCE, FP32], "passed"), META))
    assert any("no graph is proven" in text for text in limits(UNPROVEN, META))
    assert limits(PASSED, META)[0] == "Demo weights & synthetic <people>"


@pytest.mark.parametrize("name", ALL)
def test_the_table_fits_a_terminal_of_80_columns(name: str) -> None:
    out = io.StringIO()
    print_table(ALL[name], Console(file=out, width=80, color_system=None))
    text = out.getvalue()
    assert "…" not in text
    assert ALL[name].verdict.upper() in text
    assert all(row.key in text and row.verdict in text for row in ALL[name].rows)
    assert " ".join(headline(ALL[name]).split()[-3:]) in " ".join(text.split())


def test_plots_put_values_where_they_belong() -> None:
    series = [plots.Series("a", "red"), plots.Series("b", "blue", "2 2")]
    svg = plots.forest(series, [0.0, 0.01], [(-0.002, 0.002), (0.005, 0.02)], 0.005, 900)
    zero, limit = (float(re.search(rf'class="{kind}" x1="([\d.]+)"', svg).group(1)) for kind in ("zero", "limit"))
    first, second = (float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg))
    assert first == pytest.approx(zero, abs=0.1)
    # 0.01 is twice as far from zero as the limit.
    assert second - zero == pytest.approx(2 * (limit - zero), abs=0.3)

    widths = [
        float(w) for w in re.findall(r'width="([\d.]+)" height="14"', plots.bars(series, [10, 40], "ab", 900, ""))
    ]
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01)

    curve = plots.cumulative(series[:1], [np.full(9, 0.1)], 900)
    (points,) = re.findall(r'points="([^"]*)"', curve)
    ticks = dict(re.findall(r'class="tick middle" x="([\d.]+)" y="\d+">([^<]+)<', curve))
    at = next(float(x) for x, text in ticks.items() if text == "0.1")
    assert all(float(p.split(",")[0]) == pytest.approx(at, abs=0.1) for p in points.split())


@pytest.mark.parametrize("value", [0.0, 1e-9])
def test_no_drift_at_all_is_drawn_at_the_floor(value: float) -> None:
    assert "nan" not in plots.cumulative([plots.Series("a", "red")], [np.full(5, value)], 350)


def test_joint_drift_leaves_out_what_nobody_labelled() -> None:
    drift = np.array([[1, np.nan], [3, np.nan]], np.float32)
    found = joint_drift(drift)
    assert found[0] == pytest.approx(2.9) and np.isnan(found[1])


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.0, "0"), (2e-5, "<0.001"), (0.1234, "0.123"), (12.345, "12.35"),
     (1234.5, "1234")],
)  # fmt: skip
def test_figures_have_the_digits_that_mean_something(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(1e-6, "0.0000"), (-1e-6, "0.0000"), (0.002, "+0.0020"), (None, "–")])
def test_differences_have_a_sign_unless_there_is_none(value: float | None, text: str) -> None:
    assert signed(value) == text


def step(blocks: list[str], macs: float, drop: float | None, ms: float | None) -> dict[str, Any]:
    interval = None if drop is None else [drop - 0.001, drop + 0.002]
    return {"blocks": blocks, "float_macs": macs, "drop": drop, "interval": interval, "ms": ms}


def record(steps: list[dict[str, Any]], best: int, blocks: int = 20) -> dict[str, Any]:
    chosen = steps[best]["blocks"]
    found = {
        "max_drop": 0.002,
        "people": 120,
        "images": 70,
        "ap": 0.9,
        "backends": {"int8": "openvino", "int8_gpu": "onnxruntime"},
        "fp32_ms": 20.0,
        "steps": steps,
        "best": best,
        "blocks": [
            {"name": f"stage{i}.<b>", "nodes": 2, "macs": 0.05, "loss": 0.001 * i, "float": f"stage{i}.<b>" in chosen}
            for i in range(blocks)
        ],
    }
    values = {
        "method": "mse",
        "data": "synthetic people",
        "people": 64,
        "images": 50,
        "curve": [[16, 0.05], [64, 0.034]],
        "settled": False,
        "search": found,
        "int8_macs": 0.982,
        "ranges": {"planes": [-2.1, 2.6], "silent": [0.0, 0.0], "conv.<i>": [0.0, 1.2e4]},
    }
    return {**values, "verdict": int8_verdict(values)}


SEARCHED = record(
    [
        step([], 0.0, None, 8.0),
        step(["stage19.<b>"], 0.05, 0.004, 9.0),
        step(["stage19.<b>", "stage18.<b>"], 0.1, 0.001, 9.5),
    ],
    2,
)
AT_ONCE = record([step([], 0.0, -0.001, None)], 0, blocks=0)
UNTUNED = {**AT_ONCE, "search": {"reason": "the weights are random"}}
UNTUNED["verdict"] = int8_verdict(UNTUNED)


class TestInt8:
    def test_verdicts(self) -> None:
        assert SEARCHED["verdict"] == (
            "98.2% of the multiply-adds are in int8. On 120 people whom neither the ranges nor the gate know, AP fell "
            "by 0.0010 (95 % interval of the loss 0.0000 to +0.0030); 0.002 may be lost. A person takes 9.5 ms, in "
            "float32 20.0 (openvino). 2 of 20 blocks stay in float because with all in int8 AP could not be measured, "
            "for the graph gives no heatmaps: stage19.<b>, stage18.<b>."
        )
        assert AT_ONCE["verdict"].endswith(
            "AP rose by 0.0010 (95 % interval of the loss -0.0020 to +0.0010); 0.002 "
            "may be lost. Nothing had to stay in float."
        )
        assert UNTUNED["verdict"] == (
            "98.2% of the multiply-adds are in int8; what that costs in AP was not tuned: the weights are random."
        )

    @pytest.mark.parametrize("values", [SEARCHED, AT_ONCE, UNTUNED], ids=["searched", "at once", "untuned"])
    def test_the_page_tells_and_draws_it(self, tmp_path: Path, values: dict[str, Any]) -> None:
        html, page, stored = pages(tmp_path, PASSED, {**META, "calibration": values})
        assert values["verdict"] in page.text and stored["meta"]["calibration"]["verdict"] == values["verdict"]
        assert "Going up to 64 people moved the ranges by 3.4% on average: more people would still" in page.text
        labels = [value for key, value in page.attributes if key == "aria-label"]
        assert labels.count("range of each quantised activation") == 2, "one wide, one narrow"
        drawn = "AP lost against cost of each network that was measured"
        assert labels.count(drawn) == (0 if values is UNTUNED else 2)
        assert "conv.<i>: 0 to 1.2e+04" in page.text and "nan" not in re.sub(r"base64,[^\"]*", "", html)

    def test_the_terminal_shows_the_worst_blocks(self) -> None:
        out = io.StringIO()
        print_blocks(SEARCHED, Console(file=out, width=80))
        text = " ".join(out.getvalue().split())
        assert SEARCHED["verdict"] in text and max(map(len, out.getvalue().splitlines())) <= 80
        assert text.endswith("stage13.<b> 5.00% 0.01300 int8 stage12.<b> 5.00% 0.01200 int8")
        assert "stage19.<b> 5.00% 0.01900 float stage18.<b> 5.00% 0.01800 float stage17" in text

    def test_blocks_in_float_come_first(self, tmp_path: Path) -> None:
        _, page, _ = pages(tmp_path, PASSED, {**META, "calibration": SEARCHED})
        table = page.text[page.text.index("Left in") :]
        assert table.index("stage19.<b> 5.00% 0.01900 float") < table.index("stage18.<b> 5.00% 0.01800 float")
        assert "stage17.<b> 5.00% 0.01700 int8" in table and "8 more lose less" in page.text
        assert "stage7.<b>" not in table

    def test_the_limit_divides_the_plot(self) -> None:
        points = [Point("a", 8.0, 0.5, (0.4, 0.6), "tried"), Point("b", 9.0, 0.001, (-0.001, 0.003), "best")]
        drawing = plots_int8.tradeoff(points, 0.002, "ms", 980)
        limit = float(re.search(r'class="limit"[^>]*y1="([\d.]+)"', drawing)[1])  # type: ignore[index]
        low, high = (float(v) for v in re.findall(r'cy="([\d.]+)"', drawing))  # the chosen one is drawn first
        assert high < limit < low, "what loses too much lies above"
        for width in (980, 350):
            inside = re.findall(r'c[xy]="([\d.]+)"', plots_int8.tradeoff(points, 0.002, "ms", width))
            assert all(0 <= float(v) <= width for v in inside)

    def test_bars_are_as_long_as_their_values(self) -> None:
        drawing = plots_int8.ranges({"a": (0.0, 1.0), "b": (0.0, 10.0), "c": (-10.0, 10.0), "d": (0.0, 0.0)}, 980)
        a, b, c, d = (float(v) for v in re.findall(r'<rect [^>]*height="([\d.]+)"', drawing))
        assert a > 0 and b > a and c == pytest.approx(2 * b, abs=0.2) and d == 0

    @pytest.mark.parametrize(
        ("curve", "settled", "said"),
        [
            ([], False, "cannot be told from so few"),
            ([(8, 0.1), (64, 0.011)], True, "up to 64 people moved the ranges by 1.1% on average: more would hardly"),
        ],
    )
    def test_whether_more_people_would_help(self, curve: list[tuple[int, float]], settled: bool, said: str) -> None:
        assert said in settled_text(curve, settled)


def test_a_graph_that_could_not_be_judged(tmp_path: Path) -> None:
    nan = float("nan")
    figures = dict.fromkeys(("pixel_drift_median", "pixel_drift_p95", "heatmap_error", "ms_per_person"), nan)
    dead = replace(INT8, **_BLANK, **figures, verdict="failed", reason="7.png, openvino int8: the <heatmaps> hold NaN")
    result = parity([REFERENCE, FP32, dead], "failed")
    result = replace(result, drift={FP32.key: result.drift[FP32.key]}, worst=result.worst[:1])
    html, page, values = pages(tmp_path, result)
    assert "openvino int8 could not be judged: 7.png, openvino int8: the <heatmaps> hold NaN. 1 of 2" in page.text
    assert values["rows"][2]["ms_per_person"] is None and values["headline"] in page.text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", html)
    out = io.StringIO()
    print_table(result, Console(file=out, width=100))
    assert "could not be judged" in out.getvalue() and "nan" not in out.getvalue().lower().replace("hold nan", "")
