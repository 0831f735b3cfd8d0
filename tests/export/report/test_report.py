"""The report shows what was measured in the terminal, as JSON and as a page that needs no other file."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from posert.export.report import print_blocks, print_table, write_report
from posert.export.report.int8_words import int8_verdict, settled_text
from posert.export.report.words import headline, joint_drift, limits, number, signed
from posert.runtime.accuracy.verdict import HeightDrift, Parity, Row, Worst
from posert.runtime.datasets import dataset
from posert.tests.contracts import contract_of

COCO = dataset("coco")
CONTRACT = contract_of("coco", 192, 256)
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
FP32 = replace(FP32, loss=0.0, loss_bounds=(-2e-6, 2e-6))
INT8 = Row("int8", "openvino", 0.868, 0.002, (-0.001, 0.006), 0.1, 0.5, 0.04, 20.0, 1.4, "passed")
HEIGHTS = (
    HeightDrift(64, 7, None, None),
    HeightDrift(128, 21, 0.4, 0.031),
    HeightDrift(256, 12, None, None),
    HeightDrift(None, 0, None, None),
)
INT8 = replace(
    INT8,
    loss=0.0015,
    loss_bounds=(-0.0012, 0.0043),
    pixel_drift_p95_bounds=(0.41, 0.63),
    dark_drift_median=0.02,
    dark_drift_p95=0.0625,
    jumps=0.0012,
    drift_by_height=HEIGHTS,
)


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
    data = {"kind": "demo", "images": 30, "people": 40, "note": note, "decode": "default", "dark": "unbiased"}
    return Parity(rows, verdict, 0.005, data, drift, worst)


PASSED = parity([REFERENCE, FP32, INT8], "passed")
FAILED = parity(
    [
        REFERENCE,
        FP32,
        replace(INT8, accuracy=0.85, accuracy_drop=0.02, accuracy_drop_interval=(0.011, 0.031), verdict="failed"),
    ],
    "failed",
)
_BLANK = {
    "accuracy": None,
    "accuracy_drop": None,
    "accuracy_drop_interval": None,
    "loss": None,
    "loss_bounds": None,
}
OPEN = replace(INT8, loss_bounds=(-0.0108, 0.0214), people_needed=90, verdict="undecided")
UNDECIDED = parity([REFERENCE, FP32, OPEN], "undecided")
FAR = replace(INT8, pixel_drift_p95_bounds=(0.56, 0.9), pixel_drift_p95=0.7, verdict="failed")
MOVED = replace(parity([REFERENCE, FP32, FAR], "failed"), max_drift=0.5)
UNSURE = replace(INT8, verdict="undecided", people_needed=130)
UNSURE_DRIFT = replace(parity([REFERENCE, FP32, UNSURE], "undecided"), max_drift=0.5)
UNPROVEN = parity(
    [replace(r, **_BLANK, verdict=v) for r, v in ((REFERENCE, "reference"), (INT8, "unproven"))],
    "unproven",
    "no labelled images were given",
)
BROKEN = parity(
    [replace(REFERENCE, **_BLANK), replace(INT8, **_BLANK, heatmap_error=1.4, verdict="failed")], "failed", ""
)
ALL = {"passed": PASSED, "failed": FAILED, "undecided": UNDECIDED, "unproven": UNPROVEN, "broken": BROKEN}
ALL |= {"moved": MOVED, "unsure of drift": UNSURE_DRIFT}


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
def test_the_page_is_well_formed_and_needs_no_other_file(tmp_path: Path, name: str) -> None:
    html, page, _ = pages(tmp_path, ALL[name])
    sources = [value for key, value in page.attributes if key in ("src", "href", "xlink:href", "action")]
    assert all(s.startswith(("data:image/jpeg;base64,", "#")) for s in sources)
    bare = re.sub(r"base64,[^\"]*", "", html)
    assert not any(word in bare for word in ("<script", "@import", "url(", "http", "nan", "{{", "{%"))
    ids = [value for key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    assert {s[1:] for s in sources if s.startswith("#")} == set(ids)


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (pages(tmp_path / name, PASSED, {**META, "calibration": SEARCHED})[0] for name in "ab")
    assert first == second


def test_plots_follow_the_colours_of_the_page(tmp_path: Path) -> None:
    """A fixed colour in a plot would be lost in dark mode."""
    html, _, _ = pages(tmp_path, PASSED, {**META, "calibration": SEARCHED})
    plots = re.findall(r'<svg class="plot".*?</svg>', html, re.DOTALL)
    plots += re.findall(r'<svg class="plot wide".*?</svg>', html, re.DOTALL)
    assert len(plots) == 4 and not any(re.search(r"(fill|stroke): ?#", plot) for plot in plots)
    variables = set(re.findall(r"var\((--[a-z0-9]+)\)", "".join(plots)))
    assert variables <= set(re.findall(r"(--[a-z0-9]+):", html))


@pytest.mark.parametrize("name", ALL)
def test_page_and_json_have_the_same_facts(tmp_path: Path, name: str) -> None:
    result = ALL[name]
    _, page, values = pages(tmp_path, result)
    assert values["verdict"] == result.verdict
    assert values["headline"] == headline(result) and values["headline"] in page.text
    assert all(text in page.text for text in values["limits"])
    assert [(r["backend"], r["precision"], r["verdict"]) for r in values["rows"]] == [
        (r.backend, r.precision, r.verdict) for r in result.rows
    ]
    for row in result.rows:
        table = page.text[page.text.index("Every graph") :]
        cells = [row.key, row.verdict, number(row.accuracy, "{:.4f}")]
        if row.verdict != "reference":
            cells += [signed(row.accuracy_drop), number(row.pixel_drift_p95), number(row.heatmap_error, "{:.1e}")]
        found = [table.find(cell, table.index(row.key)) for cell in cells]
        assert -1 not in found, (row.key, cells)


def test_rows_have_the_agreed_fields_the_reference_first(tmp_path: Path) -> None:
    _, _, values = pages(tmp_path, PASSED)
    fields = {
        "precision",
        "backend",
        "accuracy",
        "accuracy_drop",
        "accuracy_drop_interval",
        "pixel_drift_p95",
        "ms_per_person",
    }
    assert all(fields | {"size_mb", "verdict"} <= row.keys() for row in values["rows"])
    assert values["rows"][0]["backend"] == "pytorch" and values["rows"][0]["accuracy_drop"] is None
    assert values["rows"][2]["accuracy_drop_interval"] == [-0.001, 0.006]
    assert values["joint_drift_p95"]["openvino int8"]["right_ear"] is None
    seen = PASSED.drift["openvino int8"][:, 0]
    expected = np.quantile(seen[np.isfinite(seen)].astype(np.float64), 0.95)
    assert values["joint_drift_p95"]["openvino int8"]["nose"] == pytest.approx(expected)


def test_markup_in_names_and_notes_is_escaped(tmp_path: Path) -> None:
    html, page, _ = pages(tmp_path, PASSED, {**META, "model": "</title><i>$x^2$ {{ 7 }}", "calibration": SEARCHED})
    assert not re.search(r"<b>[^<]*tiny", html)
    assert "<i>" not in html and page.text.startswith("Passed: </title><i>$x^2$ {{ 7 }}")
    assert "stage19.<b>" in page.text and "conv.<i>$: 0 to 1.2e+04" in page.text
    assert 'posert build --arch <b>"tiny"</b>' in page.text
    assert "Demo weights & synthetic <people>" in page.text


def test_a_bare_report_without_candidates_or_facts(tmp_path: Path) -> None:
    _, page, values = pages(tmp_path, parity([REFERENCE], "unproven"), {})
    assert headline(parity([REFERENCE], "unproven")) in page.text
    assert values["meta"] == {}


def test_headlines_name_the_row_that_decides_with_its_figures() -> None:
    assert all(
        fact in headline(PASSED) for fact in ("openvino int8", "0.8700", "0.0020", "-0.0010 to +0.0060", "0.005")
    )
    assert all(fact in headline(FAILED) for fact in ("openvino int8", "0.0200", "0.8700", "1 of 2 graphs"))
    assert "not measured" in headline(UNPROVEN) and "0.04 (openvino int8)" in headline(UNPROVEN)
    assert "1.4" in headline(BROKEN) and "0.3" in headline(BROKEN), "the error and its bound"
    for drift, words in ((0.0, "joints do not move."), (0.0004, "joints move by less than 0.001 px (openvino int8).")):
        moved = [REFERENCE, replace(FP32, pixel_drift_p95=0.0), replace(INT8, pixel_drift_p95=drift)]
        assert headline(parity(moved, "passed")).endswith(f"95 % of the {words}")
    better = parity([REFERENCE, replace(FP32, accuracy=0.88, accuracy_drop=-0.01)], "passed")
    assert "0.0100" not in headline(better), "a gain is no loss"
    for verdict, words in (("failed", "failed"), ("undecided", "is undecided")):
        bf16 = replace(FP32, precision="bf16", accuracy_drop=0.3, verdict=verdict)
        said = headline(parity([REFERENCE, bf16, FP32], "passed"))
        assert said.startswith("Every graph keeps the AP")
        assert said.endswith(f"openvino bf16 {words} and will not be used.")


def test_undecided_says_what_the_labels_tell_and_how_many_would_decide() -> None:
    assert headline(UNDECIDED) == (
        "40 people cannot tell whether openvino int8 lost more than the allowed 0.005 of AP: the loss lies between "
        "-0.0108 and +0.0214 (95 % bounds). About 90 would; or allow more with --max-drop."
    )
    near = parity([REFERENCE, replace(OPEN, people_needed=None)], "undecided")
    assert "so near to what is allowed that more labels would not tell either: allow more with" in headline(near)
    alone = parity([REFERENCE, replace(OPEN, loss_bounds=(-math.inf, math.inf), people_needed=None)], "undecided")
    assert "they are in one image" in headline(alone)


def test_drift_that_is_too_large_is_told_with_its_bounds() -> None:
    assert headline(MOVED) == (
        "openvino int8 moves 5 % of the joints by 0.700 px or more (95 % bounds 0.560 to 0.900) on 40 people; 0.500 px "
        "are allowed. 1 of 2 graphs failed."
    )
    assert headline(UNSURE_DRIFT) == (
        "40 people cannot tell whether openvino int8 moves 95 % of the joints by at most 0.500 px: the 95th percentile "
        "is 0.500 px (95 % bounds 0.410 to 0.630). About 130 would; or allow more with --max-drift."
    )
    both = replace(MOVED, rows=[REFERENCE, replace(FAR, loss_bounds=(0.01, 0.02), accuracy_drop=0.015)])
    assert "loses 0.0150 of 0.8700 AP" in headline(both), "accuracy comes before drift"


def test_drift_by_rule_and_height_on_page_and_in_json(tmp_path: Path) -> None:
    _, page, values = pages(tmp_path, PASSED)
    table = page.text[page.text.index("Drift in px of the frame") :]
    assert "<64 (7) 64-128 (21) 128-256 (12) 256+ (0)" in table
    assert "openvino int8 0.100 0.500 0.410 to 0.630 0.020 0.062 0.12% – – 0.400 0.031 – – – –" in table
    row = json.loads(json.dumps(values))["rows"][2]
    assert row["drift_by_height"][0] == {"below": 64, "people": 7, "p95": None, "dark_p95": None}
    assert row["pixel_drift_p95_bounds"] == [0.41, 0.63] and row["jumps"] == 0.0012
    assert values["max_drift"] is None


def test_the_drift_table_fits_however_long_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    heights = tuple(replace(h, people=1234, p95=12.345, dark_p95=1.0) for h in HEIGHTS)
    wide = replace(INT8, backend="onnxruntime_cuda", precision="int8_gpu", drift_by_height=heights, jumps=0.1234)
    print_table(parity([REFERENCE, replace(wide, pixel_drift_p95=123.4)], "passed"), Console(width=80))
    out = capsys.readouterr().out
    assert "…" not in out and max(map(len, out.splitlines())) <= 80
    assert all(text in out for text in ("(1234)", "12.3", "123", "12.3%", ".062"))


def test_limits_depend_on_what_was_measured() -> None:
    assert any("without its steps" in text for text in limits(PASSED, META))
    assert not any("without its steps" in text for text in limits(UNPROVEN, META))
    assert any("not measured" in text for text in limits(UNPROVEN, META))
    assert limits(PASSED, META)[0] == "Demo weights & synthetic <people>"
    assert any("posert verify tiny.pose" in text for text in limits(PASSED, META))


@pytest.mark.parametrize("name", ALL)
def test_the_table_fits_a_terminal_of_80_columns(name: str) -> None:
    out = io.StringIO()
    print_table(ALL[name], Console(file=out, width=80, color_system=None))
    text = out.getvalue()
    assert "…" not in text
    assert ALL[name].verdict.upper() in text
    assert all(row.key in text and row.verdict in text for row in ALL[name].rows)
    assert " ".join(headline(ALL[name]).split()[-3:]) in " ".join(text.split())


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
        "metric": "AP",
        "max_drop": 0.002,
        "people": 120,
        "images": 70,
        "accuracy": 0.9,
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
        "different": 60,
        "images": 50,
        "curve": [[16, 0.05], [64, 0.034]],
        "settled": False,
        "search": found,
        "int8_macs": 0.982,
        "ranges": {"planes": [-2.1, 2.6], "silent": [0.0, 0.0], "conv.<i>$": [0.0, 1.2e4]},
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
    def test_verdicts_have_the_figures(self) -> None:
        told = (
            "98.2%",
            "120 instances",
            "0.0010",
            "0.0000 to +0.0030",
            "0.002",
            "9.5 ms",
            "20.0",
            "2 of 20",
            "stage18.<b>",
        )
        assert all(fact in SEARCHED["verdict"] for fact in told)
        assert all(fact in AT_ONCE["verdict"] for fact in ("rose by 0.0010", "-0.0020 to +0.0010", "0.002"))
        assert all(fact in UNTUNED["verdict"] for fact in ("98.2%", "the weights are random"))

    @pytest.mark.parametrize("values", [SEARCHED, AT_ONCE, UNTUNED], ids=["searched", "at once", "untuned"])
    def test_the_page_has_its_facts_and_plots(self, tmp_path: Path, values: dict[str, Any]) -> None:
        html, page, stored = pages(tmp_path, PASSED, {**META, "calibration": values})
        assert values["verdict"] in page.text and stored["meta"]["calibration"]["verdict"] == values["verdict"]
        assert settled_text(values["curve"], values["settled"], values["different"]) in page.text
        labels = [value for key, value in page.attributes if key == "aria-label"]
        assert labels.count("range of each quantised activation") == 1
        drawn = "AP lost against cost of each network that was measured"
        assert labels.count(drawn) == (0 if values is UNTUNED else 1)
        assert "planes: -2.1 to 2.6" in page.text and "nan" not in re.sub(r"base64,[^\"]*", "", html)

    def test_the_terminal_shows_the_worst_blocks(self) -> None:
        out = io.StringIO()
        print_blocks(SEARCHED, Console(file=out, width=80))
        text = " ".join(out.getvalue().split())
        assert SEARCHED["verdict"] in text and max(map(len, out.getvalue().splitlines())) <= 80
        assert text.endswith("stage13.<b> 5.00% 0.01300 int8 stage12.<b> 5.00% 0.01200 int8")
        assert "stage19.<b> 5.00% 0.01900 float stage18.<b> 5.00% 0.01800 float stage17" in text

    def test_blocks_in_float_come_first(self, tmp_path: Path) -> None:
        _, page, _ = pages(tmp_path, PASSED, {**META, "calibration": SEARCHED})
        table = page.text[page.text.index("Sensitive blocks") :]
        assert table.index("stage19.<b> 5.00% 0.01900 float") < table.index("stage18.<b> 5.00% 0.01800 float")
        assert "stage17.<b> 5.00% 0.01700 int8" in table and "8 more blocks lose less" in page.text
        assert "stage7.<b>" not in table

    def test_whether_more_people_would_help(self) -> None:
        few, moving, settled = (
            settled_text(*given)
            for given in (([], False, 1), ([(64, 0.15)], False, 100), ([(8, 0.1), (64, 0.011)], True, 64))
        )
        assert "1 different calibration instance: 11 more would help" in few
        assert "to 64 of 100 " in moving and "15.0%" in moving and "twice as many" in moving
        assert "to 64 calibration" in settled and "1.1%" in settled and "more would not be seen" in settled
        assert "10 different calibration instances: 2 more would help" in settled_text([(8, 0.03)], True, 10)

    def test_ranges_of_synthetic_people_are_told(self) -> None:
        assert "The ranges were found on synthetic people" in int8_verdict({**AT_ONCE, "on_strangers": True})
        assert "synthetic" not in int8_verdict({**AT_ONCE, "on_strangers": False})


def test_a_graph_that_could_not_be_evaluated(tmp_path: Path) -> None:
    nan = float("nan")
    figures = dict.fromkeys(("pixel_drift_median", "pixel_drift_p95", "heatmap_error", "ms_per_person"), nan)
    dead = replace(INT8, **_BLANK, **figures, verdict="failed", reason="7.png, openvino int8: the <heatmaps> hold NaN")
    result = parity([REFERENCE, FP32, dead], "failed")
    result = replace(result, drift={FP32.key: result.drift[FP32.key]}, worst=result.worst[:1])
    html, page, values = pages(tmp_path, result)
    assert f"{dead.key} could not be evaluated: {dead.reason}." in page.text
    assert values["rows"][2]["ms_per_person"] is None and values["headline"] in page.text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", html)
    out = io.StringIO()
    print_table(result, Console(file=out, width=100))
    assert dead.key in out.getvalue() and "nan" not in out.getvalue().lower().replace("hold nan", "")


def test_drift_names_its_decode_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same heatmaps are some times farther apart by the quarter rule than by DARK."""
    own = replace(PASSED, data={**PASSED.data, "decode": "unbiased", "subjects": "instances"})
    said = "distance of the joints from those of the PyTorch model in px of the frame, decoded by the contract's rule"
    _, page, _ = pages(tmp_path, own, META)
    assert f"Drift is the {said} 'unbiased'." in page.text
    print_table(own, Console(width=400))
    out = capsys.readouterr().out
    assert f"Drift: {said} 'unbiased'." in out
    assert f"{own.data['people']} instances" in out and f"{own.data['people']} people" not in out + page.text
