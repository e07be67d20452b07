"""From clips to shards of latents: encoded once, by as many processes as there are, and not again after a kill.

A shard of latents belongs to one shard (or chunk) of clips, and says in the notes of each sample's source which models
and which bytes it was made from; it is made again when one of these is another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from gaia2.conditioning.clip_embedding import embed_images
from gaia2.data.clip import Clip
from gaia2.data.clip_folder import ClipFolder, finished_chunks
from gaia2.data.index import Index
from gaia2.data.latent_clip import LatentClip
from gaia2.data.shards import ShardReader, ShardWriter
from gaia2.data.source import Source
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.scene import Scene
from gaia2.training.precision import Precision, autocast
from gaia2.training.ranks import Ranks
from gaia2.training.rendered_latents import fingerprint

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection


@dataclass(frozen=True)
class ClipGroup:
    """Clips that are encoded into one shard.

    Attributes:
        name: Of the shard of latents, without ending.
        digest: A hash of the clips' bytes.
        clips: Gives the clips.
    """

    name: str
    digest: str
    clips: Callable[[], Iterator[Clip]]


def clip_groups(folder: str | Path) -> list[ClipGroup]:
    """The shards, or chunks, of a folder of clips, in order.

    Raises:
        FileNotFoundError: If there are neither.
    """
    folder = Path(folder)
    if finished_chunks(folder):
        return _chunks(ClipFolder(folder))
    index = Index.load(folder)
    groups = []
    for shard in index.shards:
        keys = [clip.key for clip in index.clips if clip.shard == shard.name]
        groups.append(ClipGroup(Path(shard.name).stem, shard.sha256, _reading(folder / shard.name, keys)))
    return groups


@torch.no_grad()
def encode_clips_to_shards(
    groups: Sequence[ClipGroup],
    tokenizer: VideoTokenizer,
    out: str | Path,
    *,
    image_encoder: CLIPVisionModelWithProjection | None = None,
    precision: Precision = "fp32",
    ranks: Ranks | None = None,
) -> Index:
    """Encode clips into shards of latents, those that are not there yet; the groups are divided among the ranks.

    A sample has `mean` and `std` of its normalised latents, `(t, n, h, w, c)` in bfloat16. A killed call leaves whole
    shards only, and the next one goes on.

    Args:
        groups: The clips.
        tokenizer: The trained tokenizer, with its `latents_mean` and `latents_std`.
        out: Folder to fill.
        image_encoder: CLIP's, to embed the frames of clips that bring no `clip_embedding` of their own.
        precision: Of the tokenizer's products.
        ranks: Who shares the work.

    Returns:
        The index of the shards of these groups, in their order.
    """
    ranks, out = Ranks() if ranks is None else ranks, Path(out)
    models = {"tokenizer": fingerprint(tokenizer)}
    if image_encoder is not None:
        models["image_encoder"] = module_hash(image_encoder)
    own = groups[ranks.rank :: ranks.world]
    for group in tqdm(own, desc="encode", unit="shard", disable=not ranks.is_main):
        notes = {**models, "clips": group.digest}
        if _is_done(out, group, notes):
            continue
        with ShardWriter(out / f"{group.name}.tar") as shard:
            for clip in map(partial(_whole_latents, frames=tokenizer.frames_per_latent), group.clips()):
                with autocast(precision, tokenizer.device):
                    mean, std = encode_clip(clip, tokenizer)
                scene = clip.scene if image_encoder is None else with_clip_embedding(clip, image_encoder)
                source = Source(
                    clip.source.dataset,
                    clip.source.log,
                    time=clip.source.time,
                    positions=clip.source.positions,
                    notes={**clip.source.notes, **notes},
                )
                shard.write_latents(LatentClip(scene, {"mean": mean.bfloat16(), "std": std.bfloat16()}, source))
    ranks.barrier()
    return Index.merge(_part(out, group) for group in groups)


def load_latents(folder: str | Path, tokenizer: VideoTokenizer) -> Index:
    """The index of a folder of latents, all of one tokenizer.

    Raises:
        ValueError: If a clip was encoded by another tokenizer, or with other statistics.
    """
    index, own = Index.load(folder), fingerprint(tokenizer)
    other = next((clip for clip in index.clips if clip.source.notes.get("tokenizer") != own), None)
    if other is not None:
        raise ValueError(
            f"{folder}: expected latents of the tokenizer {own[:12]}, got {other.key} of "
            f"{str(other.source.notes.get('tokenizer'))[:12]}; encode the clips again with encode_latents.py"
        )
    return index


def _whole_latents(clip: Clip, frames: int) -> Clip:
    """The clip without the frames at its end that make no whole latent."""
    return clip if clip.num_frames % frames == 0 else clip.window(0, clip.num_frames // frames * frames)


def encode_clip(clip: Clip, tokenizer: VideoTokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the normalised latents of a clip, `(t, n, h, w, c)` each, on the CPU."""
    frames = torch.as_tensor(clip.frames)
    frames = rearrange(frames, "tv n c hv wv -> n c tv hv wv").to(tokenizer.device).float() / 127.5 - 1
    latent_dist = tokenizer.encode(frames, return_dict=False)[0]
    mean = latent_dist.mean.float()
    mean, upper = tokenizer.normalize(mean), tokenizer.normalize(mean + latent_dist.std.float())
    mean, std = (rearrange(value, "n c t h w -> t n h w c").cpu() for value in (mean, upper - mean))
    return mean, std


def with_clip_embedding(clip: Clip, image_encoder: CLIPVisionModelWithProjection, *, frame_stride: int = 8) -> Scene:
    """The scene of a clip with CLIP's embedding of its frames (paper §2.2.3), if it has none yet.

    Args:
        clip: The clip.
        image_encoder: CLIP's image encoder.
        frame_stride: One frame of so many counts, of each camera; the embedding is their mean, of length 1.
    """
    if clip.scene.clip_embedding is not None:
        return clip.scene
    embedding = embed_images(torch.as_tensor(clip.frames)[::frame_stride], image_encoder).mean(dim=(0, 1))
    return clip.scene.replace(clip_embedding=functional.normalize(embedding, dim=0).cpu().numpy())


def load_image_encoder(name: str | None, device: torch.device | str) -> CLIPVisionModelWithProjection | None:
    """CLIP's image encoder from the hub, its cache or a folder; None for None."""
    if name is None:
        return None
    from transformers import CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection.from_pretrained(name).to(device).eval()


def module_hash(module: nn.Module) -> str:
    """SHA-256 of a module's class and weights."""
    digest = hashlib.sha256(type(module).__name__.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _part(out: Path, group: ClipGroup) -> Index:
    path = out / f"{group.name}.json"
    return Index.from_json(path.read_text(encoding="utf-8"), str(path))


def _is_done(out: Path, group: ClipGroup, notes: dict[str, str]) -> bool:
    """Whether a group's shard is there, made from the same bytes by the same models."""
    if not ((out / f"{group.name}.json").is_file() and (out / f"{group.name}.tar").is_file()):
        return False
    clips = _part(out, group).clips
    made = (clip.source.notes for clip in clips)
    return bool(clips) and all(all(note.get(name) == value for name, value in notes.items()) for note in made)


def _chunks(folder: ClipFolder) -> list[ClipGroup]:
    groups = []
    for chunk, first, end in zip(folder.chunks, folder.starts[:-1], folder.starts[1:], strict=True):
        digest = hashlib.sha256()
        for path in (chunk.with_suffix(".npy"), chunk.with_suffix(".json")):
            with open(path, "rb") as file:
                size = path.stat().st_size
                digest.update(f"{path.name} {size} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
        groups.append(ClipGroup(chunk.name, digest.hexdigest(), _indexing(folder, range(first, end))))
    return groups


def _indexing(folder: ClipFolder, rows: range) -> Callable[[], Iterator[Clip]]:
    return lambda: (folder[row] for row in rows)


def _reading(path: Path, keys: Sequence[str]) -> Callable[[], Iterator[Clip]]:
    def clips() -> Iterator[Clip]:
        reader = ShardReader(path)
        for key in keys:
            clip = reader.read(key)
            if not isinstance(clip, Clip):
                raise ValueError(f"{path}: expected clips with frames, got latents; give this folder as --latents")
            yield clip

    return clips
