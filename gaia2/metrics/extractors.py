"""Networks that turn images into the features of a Fréchet distance. Each has a name, which belongs to the figure.

Axes: i images, d features, hv wv pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gaia2.losses.features import IMAGENET_MEAN, IMAGENET_STD, ImageNormalization, efficientnet_lite0
from gaia2.video.pixels import from_uint8, to_uint8

DINO_SIZE = (448, 952)
"""Pixels that the paper's FDD rescales images to (§6.2)."""
INCEPTION_SIZE = (299, 299)


@dataclass(frozen=True)
class FeatureExtractor:
    """A network with the name of its features.

    Attributes:
        name: Stands beside each figure that comes of it.
        network: Takes images `(i, 3, hv, wv)` in [-1, 1] and gives features `(i, d)`.
        batch_size: Images at a time.
    """

    name: str
    network: nn.Module
    batch_size: int = 32

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Features `(i, d)` of images `(i, 3, hv, wv)`, uint8 or in [-1, 1].

        Raises:
            ValueError: If the axes are others.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images: expected (i, 3, hv, wv), got {tuple(images.shape)}; merge the axes before them")
        features = []
        for part in images.split(self.batch_size):
            scaled = from_uint8(part) if part.dtype == torch.uint8 else part
            features.append(self.network(scaled).float())
        return torch.cat(features)


def efficientnet_features() -> FeatureExtractor:
    """Mean over the image of the last stage of EfficientNet-Lite0, 320 features; needs no download.

    Figures of it are neither FID nor FDD.

    Raises:
        ImportError: If the packages are not installed; they come with `pip install 'gaia2[train]'`.

    Example:
        >>> extractor = efficientnet_features()
        >>> extractor.name, extractor(torch.zeros(2, 3, 64, 128)).shape
        ('efficientnet-lite0 stage5', torch.Size([2, 320]))
    """
    return FeatureExtractor("efficientnet-lite0 stage5", _MeanOfStage(efficientnet_lite0(["stage5"]), "stage5").eval())


def dino_features(model: Any = None, *, size: tuple[int, int] = DINO_SIZE) -> FeatureExtractor:
    """The class token of DINOv2 ViT-L/14 on images of 448 x 952: the features of the paper's FDD (§6.2).

    Args:
        model: A `transformers.Dinov2Model`; by default "facebook/dinov2-large" is loaded.
        size: Height and width that images are resized to, bilinearly.

    Raises:
        OSError: If the weights are neither in the cache nor to be had.
    """
    name = (
        "dinov2-large CLS 448x952 (FDD)" if model is None and size == DINO_SIZE else f"dinov2 CLS {size[0]}x{size[1]}"
    )
    if model is None:
        from transformers import AutoModel

        with weights_of("facebook/dinov2-large"):
            model = AutoModel.from_pretrained("facebook/dinov2-large")
    return FeatureExtractor(name, _ClassToken(model, size).eval(), batch_size=4)


def inception_features(network: nn.Module | None = None) -> FeatureExtractor:
    """The 2,048 features of InceptionV3 at 299 x 299: those of FID.

    Args:
        network: Takes uint8 images `(i, 3, 299, 299)` and gives features `(i, d)`; by default that of torchmetrics,
            `NoTrainInceptionV3`, with the original weights.

    Raises:
        ImportError: If torchmetrics or torch-fidelity is not installed.
        OSError: If the weights are neither in the cache nor to be had.
    """
    name = "inception-v3 2048 (FID)" if network is None else f"{type(network).__name__} 299x299"
    if network is None:
        try:
            from torchmetrics.image.fid import NoTrainInceptionV3

            with weights_of("inception-v3-compat"):
                network = NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"])
        except ImportError as error:
            raise ImportError(
                "inception: expected torchmetrics and torch-fidelity, which are not installed; pip install "
                "'gaia2[metrics]' torch-fidelity, or give a network"
            ) from error
    return FeatureExtractor(name, _Resized(network).eval())


@contextmanager
def weights_of(name: str) -> Iterator[None]:
    """Say what to do where weights of that name are neither in the cache nor to be had.

    Raises:
        OSError: In place of the one that loading them raised.
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{name}: expected its weights in the cache, got none and no way to load them; load them once with a "
            "connection, or give a network of your own"
        ) from error


class _MeanOfStage(nn.Module):
    def __init__(self, features: nn.Module, stage: str) -> None:
        super().__init__()
        self.features, self.stage = features, stage

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.features(images)[self.stage].mean(dim=(2, 3))


class _ClassToken(nn.Module):
    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.size = model, size
        self.normalize = ImageNormalization(mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        resized = F.interpolate(images, size=self.size, mode="bilinear", align_corners=False, antialias=True)
        return self.model(pixel_values=self.normalize(resized)).last_hidden_state[:, 0]


class _Resized(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        resized = F.interpolate(images, size=INCEPTION_SIZE, mode="bilinear", align_corners=False, antialias=True)
        return self.network(to_uint8(resized))
