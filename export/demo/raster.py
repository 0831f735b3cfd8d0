"""A shaded z-buffer canvas for the two solids that mannequins are made of."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Texture = Callable[[Floats, Floats, Floats], Floats]  # x, y, z of the surface, (h, w) each -> BGR (h, w, 3)

EMPTY = np.float32(-1e9)


class Canvas:
    """An image under construction, px of the frame, z towards the camera.

    Attributes:
        image: BGR `(H, W, 3)` float32, 0..255.
        owner: `(H, W)` int32, who was drawn last at a pixel: 0 for the background.
        depth: `(H, W)` float32 of the current layer, EMPTY where it has drawn nothing.
    """

    def __init__(self, image: Floats, light: Doubles) -> None:
        self.image = image
        self.height, self.width = image.shape[:2]
        self.owner = np.zeros((self.height, self.width), np.int32)
        self._light = (light / np.linalg.norm(light)).astype(np.float32)
        self._xs = np.arange(self.width, dtype=np.float32)[None]
        self._ys = np.arange(self.height, dtype=np.float32)[:, None]

    def start_layer(self, owner: int) -> None:
        """Draw from here on over all that is there, as `owner`; depth only matters within the layer."""
        self._owner = owner
        self.depth = np.full((self.height, self.width), EMPTY, np.float32)

    def capsule(self, a: Doubles, b: Doubles, radius_a: float, radius_b: float, paint: Floats | Texture) -> None:
        """A limb from `a` to `b` (x, y, z), its colour or its texture over the surface normal."""
        radius = max(radius_a, radius_b)
        patch = self._patch(np.minimum(a, b)[:2] - radius, np.maximum(a, b)[:2] + radius)
        if patch is None:
            return
        rows, columns = patch
        dx, dy, dz = (np.float32(d) for d in b - a)
        length2 = float(dx * dx + dy * dy)
        px, py = self._xs[:, columns] - np.float32(a[0]), self._ys[rows] - np.float32(a[1])
        along = np.clip((px * dx + py * dy) * np.float32(1 / max(length2, 1e-3)), 0, 1)
        ex, ey = px - along * dx, py - along * dy
        radii = np.float32(radius_a) + along * np.float32(radius_b - radius_a)
        distance2 = ex * ex + ey * ey
        alpha = np.clip(radii - np.sqrt(distance2) + np.float32(0.5), 0, 1)
        inverse = np.float32(1) / radii
        nx, ny = ex * inverse, ey * inverse
        nz = np.sqrt(np.maximum(1 - distance2 * inverse * inverse, 0))
        color = paint(nx, ny, nz) if callable(paint) else paint
        self._blend(patch, alpha, np.float32(a[2]) + along * dz + nz * radii, (nx, ny, nz), color)
        if a is not b and length2 < 0.25 * float(dz * dz):
            # Seen end-on, the profile above cuts the nearer cap flat: draw it round.
            end, radius = (a, radius_a) if a[2] > b[2] else (b, radius_b)
            self.capsule(end, end, radius, radius, paint)

    def ellipsoid(self, centre: Doubles, axes: Doubles, radii: Doubles, texture: Texture) -> None:
        """`axes` (3, 3) holds the directions in its columns; the texture is over the unit ball."""
        extent = np.sqrt(((axes * radii) ** 2).sum(1))
        patch = self._patch(centre[:2] - extent[:2], centre[:2] + extent[:2])
        if patch is None:
            return
        rows, columns = patch
        m = (axes / radii).T.astype(np.float32)  # px of the frame -> unit ball
        px, py = self._xs[:, columns] - np.float32(centre[0]), self._ys[rows] - np.float32(centre[1])
        # The ray of a pixel in the unit ball is base + z * ray: its nearer intersection solves a quadratic.
        base = [m[k, 0] * px + m[k, 1] * py for k in range(3)]
        ray = m[:, 2]
        ray2 = np.float32(ray @ ray)
        dot = base[0] * ray[0] + base[1] * ray[1] + base[2] * ray[2]
        inside = 1 - (base[0] ** 2 + base[1] ** 2 + base[2] ** 2) + dot * dot / ray2
        edge = np.float32(min(extent[0], extent[1]))
        alpha = np.clip((1 - np.sqrt(np.maximum(1 - inside, 0))) * edge + np.float32(0.5), 0, 1)
        z = (np.sqrt(np.maximum(inside, 0) * ray2) - dot) / ray2
        unit = [base[k] + ray[k] * z for k in range(3)]
        nx, ny, nz = (m[0, k] * unit[0] + m[1, k] * unit[1] + m[2, k] * unit[2] for k in range(3))
        scale = 1 / np.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-12))
        color = texture(unit[0], unit[1], unit[2])
        self._blend(patch, alpha, z + np.float32(centre[2]), (nx * scale, ny * scale, nz * scale), color)

    def flat(self, coverage: NDArray[np.uint8], color: Floats, owner: int) -> None:
        """A flat thing over everything: coverage `(H, W)` 0..255, BGR colour that broadcasts to the image."""
        alpha = (coverage.astype(np.float32) / 255)[..., None]
        self.image += alpha * (np.minimum(color, 255) - self.image)
        self.owner[coverage > 127] = owner

    def _patch(self, low: Doubles, high: Doubles) -> tuple[slice, slice] | None:
        x0, y0 = max(0, math.floor(low[0]) - 1), max(0, math.floor(low[1]) - 1)
        x1, y1 = min(self.width, math.ceil(high[0]) + 2), min(self.height, math.ceil(high[1]) + 2)
        return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None

    def _blend(
        self, patch: tuple[slice, slice], alpha: Floats, z: Floats, normal: tuple[Floats, Floats, Floats], color: Floats
    ) -> None:
        (nx, ny, nz), depth = normal, self.depth[patch]
        alpha = alpha * (z > depth)
        lx, ly, lz = self._light
        lit = np.maximum(nx * lx + ny * ly + nz * lz, 0)
        shade = np.float32(0.5) + np.float32(0.58) * lit - np.float32(0.1) * (1 - nz)
        image = self.image[patch]
        image += alpha[..., None] * (np.minimum(color * shade[..., None], 255) - image)
        solid = alpha > 0.5
        depth[solid] = z[solid]
        self.owner[patch][solid] = self._owner
