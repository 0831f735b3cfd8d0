"""Goldens of the published pipelines (MMPose 0.29 and 0.10, the HRNet and MSPN repositories, xtcocotools, pycocotools,
poseval) and the inputs that they were made from, drawn anew because they are large."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from posert.runtime.pose.heads import HEADS, Head, head
from posert.runtime.registry import Registry

FOLDER = Path(__file__).parents[1] / "goldens" / "protocol"
MAPS = {
    "coco_64x48": (17, 64, 48, 2.0, 3000),
    "coco_96x72": (17, 96, 72, 3.0, 3001),
    "mpii_64x64": (16, 64, 64, 2.0, 3002),
}
PEOPLE = 64
IMAGES = ((320, 240), (640, 480), (97, 211))


@pytest.fixture
def add_head(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Head], None]]:
    """Registers a decode rule for the length of a test."""
    added: dict[str, Head] = {}
    load = Registry.load

    def look_up(registry: Registry[Any], name: str) -> Any:
        return added[name] if registry is HEADS and name in added else load(registry, name)

    monkeypatch.setattr(Registry, "load", look_up)
    yield lambda head: added.update({head.name: head})
    head.cache_clear()


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """Content of a golden file: the arrays of a .npz, or a JSON value."""
    return _load


@cache
def _load(name: str) -> Any:
    path = FOLDER / name
    if name.endswith(".npz"):
        with np.load(path) as arrays:
            return dict(arrays)
    return json.loads(gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes())


@pytest.fixture(scope="session")
def golden_heatmaps() -> Callable[..., NDArray[np.float32]]:
    """`(64, K, h, w)` maps of a set of MAPS; with `amplitude=255` those for the Megvii rules."""
    return lambda name, amplitude=1: _heatmaps(name)[0 if amplitude == 1 else 1]


@pytest.fixture(scope="session")
def golden_kinds() -> Callable[[int], NDArray[np.int64]]:
    """`(64, K)` what was drawn: 0-6 a peak inside, 7 near the border, 8 outside, 9 two peaks, 10 two equal maxima,
    11 a plateau, 12 zeros, 13 all negative, 14 constant, 15 a spike or a broad blob."""
    return lambda joints: (5 * np.arange(PEOPLE)[:, None] + 3 * np.arange(joints)) % 16


@pytest.fixture(scope="session")
def golden_combined() -> NDArray[np.float32]:
    """`(16, 51, 64, 48)` class and offset maps of UDP's CombinedTarget."""
    return _combined()


@pytest.fixture(scope="session")
def golden_flip() -> Callable[[int], NDArray[np.float32]]:
    """`(6, K, 16, 12)`: maps of three crops and of their mirror images, for K channels."""

    def draw(channels: int) -> NDArray[np.float32]:
        state = np.random.RandomState(4000 + channels)
        pair = [_on_grid(-0.1 + 1.1 * state.random_sample((3, channels, 16, 12)), 10) for _ in range(2)]
        return np.concatenate(pair)

    return draw


@pytest.fixture(scope="session")
def golden_image() -> Callable[[int], NDArray[np.uint8]]:
    """RGB images 0, 1, 2 of the sizes IMAGES, smooth noise."""
    return _image


def _on_grid(values: NDArray[np.float64], bits: int) -> NDArray[np.float32]:
    """Rounded to a binary grid, so that a libm's last bit changes nothing."""
    return (np.floor(values * 2.0**bits + 0.5) / 2.0**bits).astype(np.float32)


def _noise(state: np.random.RandomState, height: int, width: int) -> NDArray[np.float64]:
    """Nearly normal: the sum of four uniform draws."""
    total = state.random_sample((height, width))
    for _ in range(3):
        total = total + state.random_sample((height, width))
    return (total - 2.0) * 1.7320508


def _blob(x: float, y: float, sigma: float, peak: float, height: int, width: int) -> NDArray[np.float64]:
    rows, columns = np.arange(height, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)[None]
    return peak * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2.0 * sigma * sigma))


@cache
def _heatmaps(name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    joints, height, width, sigma, seed = MAPS[name]
    state = np.random.RandomState(seed)
    unit, large = np.zeros((2, PEOPLE, joints, height, width), np.float32)
    for n in range(PEOPLE):
        for k in range(joints):
            drawn = _map((5 * n + 3 * k) % 16, state, height, width, sigma)
            unit[n, k], large[n, k] = _on_grid(drawn, 20), _on_grid(drawn * 255.0, 12)
    return unit, large


def _map(kind: int, state: np.random.RandomState, height: int, width: int, sigma: float) -> NDArray[np.float64]:
    u = state.random_sample(12)
    noise = 0.012 * _noise(state, height, width)
    x, y = 4 + u[0] * (width - 9), 4 + u[1] * (height - 9)
    peak, spread = 0.15 + 0.9 * u[2], sigma * (0.85 + 0.4 * u[3])
    if kind in (7, 8):
        depth, side = (u[4] * 1.5 if kind == 7 else -(u[4] * 3.0)), int(u[5] * 8)
        x = depth if side in (0, 4, 5) else width - 1 - depth if side in (1, 6, 7) else x
        y = depth if side in (2, 4, 6) else height - 1 - depth if side in (3, 5, 7) else y
    if kind <= 8:
        return _blob(x, y, spread, peak, height, width) + noise
    if kind == 9:
        dx, dy = ((7, 0), (0, 9), (5, 6), (-6, 8))[int(u[6] * 4)]
        second = _blob(x + dx, y + dy, spread, peak * (0.9 + 0.15 * u[7]), height, width)
        return _blob(x, y, spread, peak, height, width) + second + noise
    if kind in (10, 11):
        drawn, column, row = _blob(x, y, spread, peak, height, width) + 0.2 * noise, int(x), int(y)
        top = drawn.max() + 0.03
        if kind == 10:
            drawn[row, column] = drawn[min(height - 1, row + 2), min(width - 1, column + 3)] = top
        else:
            drawn[row : row + 2, column : column + 2] = top
        return drawn
    if kind == 12:
        return np.zeros((height, width))
    if kind == 13:
        return -0.05 - np.abs(noise)
    if kind == 14:
        return np.full((height, width), 0.25)
    if u[8] < 0.5:
        noise[int(y), int(x)] = peak
        return noise
    return _blob(x, y, 4.0 * sigma, peak, height, width) + 0.3 * noise


@cache
def _combined() -> NDArray[np.float32]:
    people, joints, height, width = 16, 17, 64, 48
    state, radius = np.random.RandomState(3010), 0.0546875 * 64
    rows, columns = np.arange(height, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)[None]
    maps = np.zeros((people, joints, 3, height, width), np.float32)
    for n in range(people):
        for k in range(joints):
            u = state.random_sample(4)
            x, y = 5 + u[0] * (width - 11), 5 + u[1] * (height - 11)
            disk = (columns - x) ** 2 + (rows - y) ** 2 <= radius * radius
            for channel, inside in enumerate((0.5 + 0.5 * u[2], (x - columns) / radius, (y - rows) / radius)):
                maps[n, k, channel] = _on_grid(disk * inside + 0.01 * _noise(state, height, width), 20)
    return maps.reshape(people, 3 * joints, height, width)


@cache
def _image(index: int) -> NDArray[np.uint8]:
    width, height = IMAGES[index]
    state = np.random.RandomState(1000 + index)
    channels = []
    for _ in range(3):
        total = np.zeros((height, width))
        for cell, share in ((64, 0.45), (23, 0.3), (9, 0.17), (4, 0.08)):
            lattice = state.random_sample((height // cell + 2, width // cell + 2))
            x, y = np.arange(width) / cell, np.arange(height) / cell
            i, j = x.astype(int), y.astype(int)
            f, g = ((t - t.astype(int)) for t in (x, y))
            f, g = f * f * (3.0 - 2.0 * f), (g * g * (3.0 - 2.0 * g))[:, None]
            upper = lattice[j][:, i] * (1 - f) + lattice[j][:, i + 1] * f
            lower = lattice[j + 1][:, i] * (1 - f) + lattice[j + 1][:, i + 1] * f
            total = total + share * (upper * (1 - g) + lower * g)
        channels.append(np.clip(np.floor(total * 255.0 + 0.5), 0, 255).astype(np.uint8))
    return np.stack(channels[::-1], axis=2)


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """The URL of a bucket of a server of this machine that speaks S3's protocol (moto)."""
    pytest.importorskip("s3fs", reason="S3 needs s3fs and moto[server]: pip install s3fs 'moto[server]'")
    server = pytest.importorskip("moto.server", reason="S3 needs s3fs and moto[server]").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0
    )
    server.start()
    host, port = server.get_host_and_port()
    names = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",  # processes that tests start read these, too
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem().mkdir("posert-tests")
        yield "s3://posert-tests"
    server.stop()
