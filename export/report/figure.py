"""A matplotlib figure as an SVG element of the report's page.

Colours become the page's CSS variables, so that dark mode applies to plots. Text stays text. Ids are unique in the
page, and the same values give the same bytes.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from typing import Any

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_WIDTH = 440  # px; legible on a phone, and half as wide as the page in a wide window
_WIDE = 900  # px, of panels beside each other
_CSSCOLORS = ("ink", "soft", "rule", "card", "fp32", "fp16", "int8", "other", "reference", "bad")
# matplotlib knows no CSS variables: it draws with a placeholder for each, which `Plot.svg` replaces.
COLOR = {name: f"#0d0d{k:02x}" for k, name in enumerate(_CSSCOLORS)}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "posert",
    "text.parse_math": False,  # names of layers and models are not formulas
    "axes.unicode_minus": False,
    "font.size": 12.5,
    "text.color": COLOR["ink"],
    **dict.fromkeys(["axes.labelcolor", "xtick.color", "ytick.color"], COLOR["soft"]),
    **dict.fromkeys(["axes.edgecolor", "grid.color"], COLOR["rule"]),
    "xtick.major.pad": 6,
    **dict.fromkeys([f"{axis}tick.{kind}.size" for axis in "xy" for kind in ("major", "minor")], 0),
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    **dict.fromkeys([f"axes.spines.{side}" for side in ("left", "right", "top", "bottom")], False),
    "legend.frameon": False,
}

# A decorator of functions that draw.
styled = rc_context(_STYLE)


class Plot:
    """A figure with one pair of axes, or some beside each other that share their rows, and tooltips of its artists."""

    def __init__(self, name: str, label: str, height: float, beside: int = 1) -> None:
        self.name, self.label, self._class = name, label, "plot" if beside == 1 else "plot wide"
        width = _WIDTH if beside == 1 else _WIDE
        self.figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        self.panels: list[Axes] = list(self.figure.subplots(1, beside, sharey=beside > 1, squeeze=False)[0])
        self.axes = self.panels[0]
        self._tips: dict[str, str] = {}

    def tip(self, artist: Artist, text: str) -> None:
        """Show a text while the pointer is over an artist."""
        gid = f"tip{len(self._tips)}"
        artist.set_gid(gid)
        self._tips[gid] = text

    def svg(self) -> str:
        """The drawing as an element of the page."""
        for artist in self.figure.findobj():
            artist.set_clip_on(False)
        file = io.BytesIO()
        self.figure.savefig(file, format="svg", metadata={"Date": None})
        root, by_id = ET.XMLID(file.getvalue())
        for gid, text in self._tips.items():
            title = ET.Element("title")
            title.text = text
            by_id[gid].insert(0, title)
        used = set(re.findall(r'href="#([^"]+)"', file.getvalue().decode()))
        for element in root.iter():
            element.tag = _local(element.tag)
            for child in [c for c in element if _local(c.tag) in ("metadata", "style")]:
                element.remove(child)
            attributes = {_local(key): _for_page(value) for key, value in element.attrib.items()}
            if attributes.get("id") not in used:
                attributes.pop("id", None)
            for key, hash_sign in (("id", ""), ("href", "#")):
                if key in attributes:
                    attributes[key] = f"{hash_sign}{self.name}-{attributes[key].lstrip('#')}"
            element.attrib = attributes
        root.attrib = {"class": self._class, "viewBox": root.attrib["viewBox"], "role": "img", "aria-label": self.label}
        return ET.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    """A name without its XML namespace, as HTML wants it."""
    return name.rpartition("}")[2]


def _for_page(style: str) -> str:
    for name, color in COLOR.items():
        style = style.replace(color, f"var(--{name})")
    return re.sub(r"font-family: [^;]*; ", "", style)
