"""Heads of MMPose's configs: what of a backbone they read, and their layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..layers.features import Features
from ..layers.head import DECONV_PADDING, Head
from .section import MOST_LAYERS, Section

_KERNELS = tuple(DECONV_PADDING)


@dataclass(frozen=True)
class MapHead:
    """A head that gives one map per keypoint."""

    keypoints: int  # C: channels of the maps
    features: Features
    layers: Head
    in_channels: int  # what the config says that the features have
    section: Section

    def check(self, widths: Sequence[int]) -> None:
        """Refuse a head that does not fit the backbone's maps, whose channels are `widths`."""
        if any(not -len(widths) <= i < len(widths) for i in self.features.indices):
            raise self.section.refusal(f"it reads maps {self.features.indices}, the backbone gives {len(widths)}")
        found = self.features.width(widths)
        if found != self.in_channels:
            raise self.section.refusal(f"in_channels={self.in_channels}, but what it reads has {found} channels")
        if self.layers.final is None and self.layers.width(found) != self.keypoints:
            raise self.section.refusal(
                f"without a final layer there are {self.layers.width(found)} maps, but out_channels={self.keypoints}"
            )


def heatmap_head(head: Section, neck: Section | None, count: int) -> MapHead:
    """MMPose 1.x: HeatmapHead behind a FeatureMapProcessor or behind nothing; the backbone gives `count` maps.

    Its release candidates had the neck's work in the head: input_transform, input_index and extra.
    """
    head.ignore("decoder")
    widths, kernels = head.integers("deconv_out_channels", (256,) * 3), head.raw("deconv_kernel_sizes", (4,) * 3)
    deconv = _pairs(head, "deconv_kernel_sizes", widths, kernels, _KERNELS)
    widths, kernels = head.integers("conv_out_channels", None), head.raw("conv_kernel_sizes", None)
    conv = _pairs(head, "conv_kernel_sizes", widths, kernels, None)
    final: tuple[int, int] | None = (1, 0)
    if head.raw("final_layer", {}) is None or not head.flag("has_final_layer", True):
        final = None
    else:
        layer = head.section("final_layer", {})
        final = layer.integer("kernel_size", 1), layer.integer("padding", 0, least=0)
        layer.close()
    features = Features() if neck is None else _processor(neck, count)
    if old := sorted(head.values.keys() & {"input_transform", "input_index", "align_corners", "extra"}):
        if neck is not None:
            raise head.refusal(f"{', '.join(old)} is not known beside a neck")
        features, kernel = _of_release_candidate(head)
        final = (kernel, kernel // 2) if final and kernel else final
    given = head.raw("in_channels")
    if old and isinstance(given, list | tuple):
        widths = head.integers("in_channels")
        if any(not -len(widths) <= i < len(widths) for i in features.indices):
            raise head.refusal(f"in_channels={given!r:.80} has nothing for input_index={features.indices!r:.80}")
        in_channels = features.width(widths)
    else:
        in_channels = head.integer("in_channels")
    keypoints = head.integer("out_channels")
    head.close()
    return MapHead(keypoints, features, Head(deconv, conv, final), in_channels, head)


def simple_head(head: Section, listed: bool, count: int) -> MapHead:
    """MMPose 0.x: TopdownHeatmapSimpleHead; the backbone gives `count` maps, in a list or not."""
    if not listed and count > 1:
        raise head.refusal(f"the backbone's out_indices are {count}, of which MMPose 0.x makes no maps")
    align = head.flag("align_corners")
    transform = head.one_of("input_transform", (None, "resize_concat"), None)
    if transform:
        in_channels = sum(head.integers("in_channels"))
        features = Features(_indices(head, "in_index", head.raw("in_index", 0)), align)
    else:
        in_channels = head.integer("in_channels")
        features = Features((head.integer("in_index", 0, least=0),))
    deconv = _old_deconvolutions(head)
    width = Head(deconv).width(in_channels)
    final, conv = (1, 0), tuple[tuple[int, int], ...]()
    if head.raw("extra", None) is not None:
        extra = head.section("extra")
        kernel = extra.one_of("final_conv_kernel", (0, 1, 3), 1)
        count = extra.integer("num_conv_layers", 0, least=0, most=MOST_LAYERS)
        kernels = extra.integers("num_conv_kernels", (1,) * count)
        conv = tuple((width, kernel) for kernel in _odd(extra, "num_conv_kernels", kernels)[:count])
        final = (kernel, kernel // 2)
        extra.close()
    keypoints = head.integer("out_channels")
    head.close()
    if not listed:
        features = Features()  # in_index and input_transform are for lists
    # A final kernel of 0 stands for no layers at all, whatever num_conv_layers says.
    layers = Head(deconv, conv, final) if final[0] else Head(deconv, final=None)
    return MapHead(keypoints, features, layers, in_channels, head)


def multi_stage_head(head: Section, source: str, stages: int) -> MapHead:
    """CPMHead of 1.x, TopdownHeatmapMultiStageHead of 0.x: one head per stage of the backbone; the last one counts."""
    final: tuple[int, int] | None = (1, 0)
    if source == "mmpose-1":
        head.ignore("decoder")
        widths, kernels = head.integers("deconv_out_channels", None), head.raw("deconv_kernel_sizes", None)
        deconv = _pairs(head, "deconv_kernel_sizes", widths, kernels, _KERNELS)
        if head.raw("final_layer", {}) is None:
            final = None
        else:
            layer = head.section("final_layer", {})
            final = layer.integer("kernel_size", 1), layer.integer("padding", 0, least=0)
            layer.close()
    else:
        deconv = _old_deconvolutions(head)
        if head.raw("extra", None) is not None:
            extra = head.section("extra")
            kernel = extra.one_of("final_conv_kernel", (0, 1, 3), 1)
            final = (kernel, kernel // 2) if kernel else None
            extra.close()
    head.one_of("num_stages", (stages,), *(() if source == "mmpose-1" else (1,)))
    in_channels, keypoints = head.integer("in_channels"), head.integer("out_channels")
    head.close()
    return MapHead(keypoints, Features(), Head(deconv, final=final), in_channels, head)


def _processor(neck: Section, count: int) -> Features:
    """A FeatureMapProcessor; behind it the head reads the last of what it gives."""
    index = neck.raw("select_index", None)
    chosen = tuple(range(count)) if index is None else _indices(neck, "select_index", index)
    concat, relu = neck.flag("concat"), neck.flag("apply_relu")
    scale, align = neck.raw("scale_factor", 1.0), neck.flag("align_corners")
    if type(scale) not in (int, float) or scale <= 0:
        raise neck.refusal(f"scale_factor={scale!r:.80}, expected a positive number")
    neck.close()
    return Features(chosen if concat else chosen[-1:], align, relu, float(scale))


def _of_release_candidate(head: Section) -> tuple[Features, int | None]:
    """What the head reads, and the kernel of the final layer if one is stated."""
    index, align = head.raw("input_index", -1), head.flag("align_corners")
    concat = head.one_of("input_transform", ("select", "resize_concat"), "select") == "resize_concat"
    if concat == (type(index) is int):
        raise head.refusal(f"input_index={index!r:.80} is not known with this input_transform")
    kernel, scale = None, 0
    if head.raw("extra", None) is not None:
        extra = head.section("extra")
        kernel = extra.one_of("final_conv_kernel", (None, 1, 3), None)
        scale = extra.integer("upsample", 0, least=0)
        extra.close()
    enlarged = bool(scale) and not concat
    return Features(_indices(head, "input_index", index), align, enlarged, float(scale) if enlarged else 1.0), kernel


def _indices(section: Section, key: str, value: object) -> tuple[int, ...]:
    given = value if isinstance(value, list | tuple) else (value,)
    if not given or not all(type(i) is int for i in given):
        raise section.refusal(f"{key}={value!r:.80}, expected integers")
    return tuple(given)


def _pairs(
    section: Section, key: str, widths: tuple[int, ...], kernels: object, known: tuple[int, ...] | None
) -> tuple[tuple[int, int], ...]:
    """Channels and kernel of each layer; kernels count only where there are layers."""
    if not widths:
        return ()
    found = section.integers(key, kernels, length=len(widths), known=known)
    return tuple(zip(widths, found if known else _odd(section, key, found), strict=True))


def _odd(section: Section, key: str, kernels: tuple[int, ...]) -> tuple[int, ...]:
    """An even kernel would change the size of the map by its padding."""
    if any(kernel % 2 == 0 for kernel in kernels):
        raise section.refusal(f"{key}={kernels!r:.80}, only odd kernels are known")
    return kernels


def _old_deconvolutions(head: Section) -> tuple[tuple[int, int], ...]:
    """num_deconv_layers, num_deconv_filters and num_deconv_kernels of 0.x."""
    count = head.integer("num_deconv_layers", 3, least=0, most=MOST_LAYERS)
    head.ignore("num_deconv_filters", "num_deconv_kernels")
    if not count:
        return ()
    widths = head.integers("num_deconv_filters", (256,) * 3, length=count)
    kernels = head.integers("num_deconv_kernels", (4,) * 3, length=count, known=_KERNELS)
    return tuple(zip(widths, kernels, strict=True))
