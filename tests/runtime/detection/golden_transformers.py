"""DETR, RT-DETR and D-FINE of the library transformers, with a few thousand random weights."""

from __future__ import annotations

from typing import Any

from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    DFineConfig,
    DFineForObjectDetection,
    HGNetV2Config,
    ResNetConfig,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrResNetConfig,
)

Heads = list[tuple[list[Any], float, float]]
"""Last layers, and the mean and deviation that their outputs are to have."""

HYBRID = {
    "encoder_hidden_dim": 16,
    "encoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "encoder_layers": 1,
    "d_model": 16,
    "num_queries": 20,
    "decoder_in_channels": [16, 16, 16],
    "decoder_ffn_dim": 16,
    "decoder_attention_heads": 2,
    "decoder_n_points": 2,
    "num_labels": 8,
    "num_denoising": 0,
    "use_pretrained_backbone": False,
    "anchor_image_size": None,
}


def small_rtdetr() -> tuple[Any, Heads]:
    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(backbone_config=backbone, encoder_in_channels=[8, 16, 16], decoder_layers=1, **HYBRID)
    network = RTDetrForObjectDetection(config).eval()
    decoder = network.model.decoder
    return network, [([decoder.bbox_embed[-1].layers[-1]], 0.0, 1.5), ([decoder.class_embed[-1]], -2.2, 1.5)]


def small_dfine() -> tuple[Any, Heads]:
    backbone = HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 16, 16, 16],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[16, 16, 16, 16],
        stage_num_blocks=[1, 1, 1, 1],
        stage_downsample=[False, True, True, True],
        stage_light_block=[False, False, True, True],
        stage_kernel_size=[3, 3, 3, 3],
        stage_numb_of_layers=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
        embedding_size=8,
        hidden_sizes=[16, 16, 16, 16],
        depths=[1, 1, 1, 1],
    )
    config = DFineConfig(backbone_config=backbone, encoder_in_channels=[16, 16, 16], decoder_layers=2, **HYBRID)
    network = DFineForObjectDetection(config).eval()
    decoder = network.model.decoder
    return network, [
        ([network.model.enc_bbox_head.layers[-1]], 0.0, 1.5),
        ([decoder.pre_bbox_head.layers[-1]], 0.0, 1.5),
        ([decoder.bbox_embed[-1].layers[-1]], 0.0, 1.5),
        ([decoder.class_embed[-1]], -2.0, 1.5),
    ]


def small_detr() -> tuple[Any, Heads]:
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic", out_features=["stage4"]
    )
    config = DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=20,
        num_labels=7,
    )
    network = DetrForObjectDetection(config).eval()
    network.model.query_position_embeddings.weight.data.normal_()  # so that queries differ
    return network, [
        ([network.bbox_predictor.layers[-1]], 0.0, 1.5),
        ([network.class_labels_classifier], 0.0, 4.0),
    ]
