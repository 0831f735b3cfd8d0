"""From histograms to ranges: what each method clips, and the trap that a heatmap is to clipping."""

from __future__ import annotations

import numpy as np
import pytest

from posert.calib.methods import METHODS, entropy, method, minmax, mse
from posert.calib.observers import HistogramObserver, Range
from posert.runtime.errors import CalibrationError


def histogram(values):
    seen = HistogramObserver()
    seen.update(np.asarray(values, np.float32))
    return seen


def quantised(values, r, levels=255):
    step = (r.hi - r.lo) / levels
    return np.rint(np.clip(values, r.lo, r.hi) / step) * step


@pytest.fixture(scope="module")
def heavy_tailed():
    rng = np.random.default_rng(0)
    return np.maximum(rng.standard_t(4, 200_000), 0).astype(np.float32)


@pytest.fixture(scope="module")
def heatmap():
    """17 maps of 64x48 with one Gaussian of sigma 2 each, as a pose network gives them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :48]
    maps = [np.exp(-((x - rng.uniform(9, 39)) ** 2 + (y - rng.uniform(9, 55)) ** 2) / 8) for _ in range(17)]
    return (np.array(maps) + 0.002 * rng.standard_normal((17, 64, 48))).astype(np.float32)


def test_mse_is_the_best_of_a_brute_force_search(heavy_tailed):
    got = mse(histogram(heavy_tailed))
    top = float(heavy_tailed.max())
    losses = {
        s: ((quantised(heavy_tailed, Range(0, top * s)) - heavy_tailed) ** 2).sum() for s in np.linspace(0.2, 1, 81)
    }
    assert got.lo == 0 and got.hi < top, "a heavy tail is worth clipping"
    loss = ((quantised(heavy_tailed, got) - heavy_tailed) ** 2).sum()
    # the histogram holds values to 1/4096 of the maximum, a sixteenth of a step
    assert loss <= 1.01 * min(losses.values())


def test_mse_of_a_flat_distribution_clips_nothing():
    seen = histogram(np.linspace(-1, 3, 100_001))
    got = mse(seen)
    assert got.hi > 0.97 * 3 and got.lo < 0.97 * -1


def test_entropy_clips_a_long_tail_and_keeps_a_flat_one(heavy_tailed):
    assert entropy(histogram(heavy_tailed)).hi < 0.9 * heavy_tailed.max()
    assert entropy(histogram(np.linspace(0, 3, 100_001))).hi > 0.95 * 3


def test_entropy_cuts_off_what_a_decoder_reads_of_a_heatmap(heatmap):
    """The trap: why a graph output is never quantised, whatever the method."""
    seen = histogram(heatmap)
    assert entropy(seen).hi < 0.5 * heatmap.max()
    assert minmax(seen).hi == heatmap.max()
    assert mse(seen).hi > 0.9 * heatmap.max(), "the squared error of a lost peak outweighs finer steps"


@pytest.mark.parametrize("name", sorted(METHODS))
def test_degenerate_streams(name):
    observer, finish = method(name)
    for values in (np.zeros(100), np.full(100, -2.5), np.full(100, 4.0), np.array([1e-30] * 3), np.array([-1.0, 1.0])):
        seen = observer()
        seen.update(values.astype(np.float32))
        got = finish(seen)
        assert got.lo <= 0 <= got.hi and np.isfinite([got.lo, got.hi]).all()
        assert got.lo >= min(values.min(), 0) - 1e-12 and got.hi <= max(values.max(), 0) + 1e-12


def test_methods_by_name():
    assert method("percentile:99")[0] is HistogramObserver
    with pytest.raises(CalibrationError, match="unknown range method 'entropie'. Did you mean entropy"):
        method("entropie")
    for bad in ("percentile:40", "percentile:101", "percentile:x", "percentile:nan", "minmax:3", "mse:1"):
        with pytest.raises(CalibrationError, match=f"{bad}.*above 50 and at most 100"):
            method(bad)
