"""OneFormer as the judge of agents, on a tiny network of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gaia2.metrics.agent_overlap import OneFormerSegmenter
from gaia2.scene import AGENT_CATEGORIES

pytest.importorskip("scipy")
NAMES = ("road", "car", "person", "rider")
SIZE = (32, 48)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory):
    from transformers import (
        CLIPTokenizer,
        OneFormerConfig,
        OneFormerForUniversalSegmentation,
        OneFormerImageProcessor,
        OneFormerProcessor,
        SwinConfig,
    )

    folder: Path = tmp_path_factory.mktemp("oneformer")
    classes = {str(i): {"isthing": int(i > 0), "name": name} for i, name in enumerate(NAMES)}
    (folder / "classes.json").write_text(json.dumps(classes))
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *[letter + "</w>" for letter in letters]]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    processor = OneFormerProcessor(
        image_processor=OneFormerImageProcessor(
            size={"height": 64, "width": 64}, class_info_file="classes.json", repo_path=str(folder), num_text=2
        ),
        tokenizer=CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")),
        max_seq_length=77,
        task_seq_length=77,
    )
    backbone = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    small = dict.fromkeys(("hidden_dim", "conv_dim", "mask_dim", "encoder_feedforward_dim", "dim_feedforward"), 32)
    config = OneFormerConfig(
        backbone_config=backbone,
        **small,
        encoder_layers=1,
        decoder_layers=2,
        num_queries=5,
        num_attention_heads=2,
        text_encoder_width=32,
        text_encoder_num_layers=1,
        text_encoder_vocab_size=len(words),
        query_dec_layers=1,
        id2label=dict(enumerate(NAMES)),
    )
    torch.manual_seed(3)
    return OneFormerForUniversalSegmentation(config).eval(), processor


@torch.no_grad()
def test_masks_are_the_most_likely_class_of_each_pixel(parts) -> None:
    model, processor = parts
    frames = torch.randint(0, 256, (2, 3, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    got = OneFormerSegmenter(model, processor, batch_size=4)(frames)
    assert got.shape == (2, 3, *SIZE)
    image = frames[1, 2].permute(1, 2, 0).numpy()
    outputs = model(**processor(images=[image], task_inputs=["semantic"], return_tensors="pt"))
    classes = outputs.class_queries_logits.softmax(dim=-1)[0, :, :-1]
    scores = torch.einsum("qk,qhw->khw", classes, outputs.masks_queries_logits[0].sigmoid())
    scores = torch.nn.functional.interpolate(scores[None], size=SIZE, mode="bilinear", align_corners=False)[0]
    category = torch.tensor([-1, *(AGENT_CATEGORIES.index(name) for name in ("car", "pedestrian", "bicycle"))])
    assert (got[1, 2] == category[scores.argmax(dim=0)]).float().mean() > 0.99


def test_bad_input(parts) -> None:
    model, processor = parts
    with pytest.raises(ValueError, match="both model and processor"):
        OneFormerSegmenter(model)
    with pytest.raises(ValueError, match="classes: expected some of the model's class names, road, car"):
        OneFormerSegmenter(model, processor, classes={"tram": "other"})
