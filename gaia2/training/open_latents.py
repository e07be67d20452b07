"""The latents that a world model is trained on: those of a folder, of clips encoded first, or of clips on the way."""

from __future__ import annotations

from pathlib import Path

from gaia2.conditioning.table import ConditionTable
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.encoded_clips import EncodedClips
from gaia2.training.encoding import clip_groups, encode_clips_to_shards, load_image_encoder, load_latents
from gaia2.training.latents import LatentShards
from gaia2.training.precision import Precision
from gaia2.training.ranks import Ranks


def open_latents(
    tokenizer: VideoTokenizer,
    folder: Path,
    *,
    clips: Path | None,
    ranks: Ranks,
    encode_first: bool = True,
    image_encoder: str | None = None,
    window: int | None = None,
    conditions: ConditionTable | None = None,
    precision: Precision = "fp32",
    threads: int = 1,
) -> LatentShards:
    """Open latents, encoding clips that are not encoded yet.

    Args:
        tokenizer: The trained tokenizer.
        folder: Of shards of latents; with `clips`, where they are written.
        clips: Folder of clips, or of clip shards; None reads the latents that are there.
        ranks: Who shares the encoding.
        encode_first: Encode all clips now, those that are not in the folder yet. Else each window when it is drawn.
        image_encoder: Folder or hub id of a CLIP image encoder, for the CLIP conditions of clips that are encoded now.
        window: Latent times of a sample.
        conditions: The conditions of the world model, `model.conditions`.
        precision: Of the tokenizer's products.
        threads: Decode so many clips at once, of those that are encoded when they are drawn.

    Raises:
        ValueError: If latents are of another tokenizer, or there are none, or clips are shorter than the window.
    """
    if clips is not None and not encode_first:
        return EncodedClips(
            clips, tokenizer, window=window, conditions=conditions, precision=precision, threads=threads
        )
    if clips is None:
        index = load_latents(folder, tokenizer)
    else:
        encoder = load_image_encoder(image_encoder, ranks.device)
        index = encode_clips_to_shards(
            clip_groups(clips), tokenizer, folder, image_encoder=encoder, precision=precision, ranks=ranks
        )
    return LatentShards(folder, index, window=window, conditions=conditions)
