"""The page of a trial shows what was found, and needs no other file."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posert.export.report.trial_page import trial_page, write_trial
from posert.export.report.trial_words import headline, terminal
from posert.export.trial import Agreement, Change, Judgement, Sight, Trial
from posert.export.trial.sight import Twins
from posert.runtime.bundle.contract import Contract

PLAIN = Contract("mouse", ("nose", "left_paw", "right_<paw>"), ((1, 2),), ((0, 1),), (), 48, 64, 12, 16)
VECTORS = replace(PLAIN, decode="simcc", heatmap_width=96, heatmap_height=128)
META = {"model": "mouse & <co>", "weights": "my.pth", "command": "posert contract check --images 'a b.png'"}
CHANGE = Change(
    "colours", "the network takes BGR", ("model_color: BGR",), Agreement(0.8, 0.05), Agreement(0.9, 0.03), 0.02,
    (0.015, 0.024), named=True,
)  # fmt: skip
OTHER = replace(CHANGE, words="boxes are not padded", gain=-0.01, interval=(-0.02, 0.0), named=False)


def sight(contract: Contract, labels: bool) -> Sight:
    rng = np.random.default_rng(0)
    k, c = len(contract.keypoints), contract
    vectors = () if c.decode != "simcc" else (np.eye(k, c.heatmap_width), np.eye(k, c.heatmap_height))
    maps = np.zeros((k, c.heatmap_height, c.heatmap_width), np.float32)
    maps[:, 4, 9] = 0.7
    xy = rng.uniform(0, 48, (k, 2)).astype(np.float32)
    truth = np.concatenate([xy, [[2], [0], [2]]], axis=1)
    return Sight(
        image=0,
        box=np.array([5.0, 6, 25, 36]),
        region=np.array([0, 0, 30, 40], np.float32),
        crop=np.full((64, 48, 3), (200, 100, 0), np.uint8),
        maps=maps,
        vectors=tuple(v.astype(np.float32) for v in vectors),
        swapped_maps=maps / 2,
        xy=xy,
        xy_crop=xy,
        score=np.array([0.7, 0.6, 0.5], np.float32),
        twin_crop=xy + 3,
        twin_gap=0.031,
        labels=truth if labels else None,
        labels_crop=xy if labels else None,
    )


def trial(contract: Contract = PLAIN, judged: bool = True, found: tuple[Change, ...] = (CHANGE,)) -> Trial:
    sights = (sight(contract, judged),)
    photos = {0: ("a b.png", np.full((40, 60, 3), 128, np.uint8))}
    judgement = Judgement(
        12, 9, Agreement(0.8, 0.05), found, (*found, OTHER), contract, np.zeros((12, 3, 2), np.float32)
    )
    twins = Twins(0.031, None if contract.decode == "simcc" else 0.02, 0.6, 0.4)
    return Trial(contract, 1, 1, "note <1>", sights, twins, photos, judgement if judged else None)


class Page(HTMLParser):
    """Checks that tags close in order, and collects text and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


CASES: dict[str, dict[str, Any]] = {
    "found": {},
    "right": {"found": ()},
    "unlabelled": {"judged": False},
    "vectors": {"contract": VECTORS},
}


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_well_formed_and_needs_no_other_file(case: str) -> None:
    html = trial_page(trial(**CASES[case]), META)
    page = Page(html)
    sources = [value for key, value in page.attributes if key in ("src", "href", "action")]
    assert all(s.startswith(("data:image/jpeg;base64,", "#")) for s in sources)
    ids = [value for key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids)) and {s[1:] for s in sources if s.startswith("#")} == set(ids)
    bare = re.sub(r"base64,[^\"]*", "", html)
    assert not any(word in bare for word in ("<script", "@import", "url(", "http", "nan", "{{", "{%", "<paw>", "<co>"))


@pytest.mark.parametrize("case", CASES)
def test_what_a_page_says(case: str) -> None:
    shown = trial(**CASES[case])
    text = Page(trial_page(shown, META)).text
    assert headline(shown) in text and "note <1>" in text and "posert contract check --images 'a b.png'" in text
    for name in ("nose", "left paw", "right <paw>", "L paw", "48 x 64 px (width x height), RGB", "a b.png, 60x40 px"):
        assert name in text
    assert ("What would improve the agreement" in text) == (case in ("found", "vectors"))
    assert ("The usual mistakes" in text) == (case != "unlabelled") == ("White rings" in text)
    assert ("With flip_shift false it would be 2.00 %" in text) == (case != "vectors")
    if case in ("found", "vectors"):
        assert "The network takes BGR" in text and "model_color: BGR" in text
        assert "5.00 % -> 3.00 % of the box (95 % interval of the gain 1.50 to 2.40)" in text
    assert "off in the file" not in text


def test_pictures_are_what_the_network_sees() -> None:
    """The crop, and the same crop with red and blue exchanged; the map lies where decoding puts its peak."""
    html = trial_page(trial(), META)
    pictures = [
        cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        for data in re.findall(r"base64,([^\"]*)", html)
    ]
    crops = [p for p in pictures if p.shape == (64, 48, 3)]
    crop, heat, swapped, swapped_heat, *joints = crops
    assert np.abs(crop.reshape(-1, 3).mean(0) - (200, 100, 0)).max() < 4
    assert np.abs(swapped.reshape(-1, 3).mean(0) - (0, 100, 200)).max() < 4
    brightest = np.unravel_index(heat.sum(2).argmax(), (64, 48))
    assert np.abs(np.array(brightest) - (16, 36)).max() <= 1  # the cell (9, 4) of a map of a quarter of the crop
    assert heat.max() > swapped_heat.max() and len(joints) == 3


def test_curves_keep_thin_peaks() -> None:
    html = trial_page(trial(VECTORS), META)
    curves = re.findall(r'class="curve [xy]" points="([^"]*)"', html)
    assert len(curves) == 6 and all(",1.0" in curve for curve in curves)


def test_the_terminal_names_the_line_that_mends_it() -> None:
    lines = terminal(trial())
    assert lines[0] == headline(trial()) and "colours: the network takes BGR" in lines and "  model_color: BGR" in lines
    assert "mistakes would improve" in terminal(trial(found=()))[0]
    assert "without labels" in terminal(trial(judged=False))[0]


def test_the_file_is_written_into_a_new_folder(tmp_path: Path) -> None:
    path = write_trial(trial(), tmp_path / "new" / "try.html", META)
    assert path.read_text(encoding="utf-8") == trial_page(trial(), META)
