"""The adversarial loss of the decoder's second stage (paper §2.1.3, §4)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import softplus


class AdversarialLoss(nn.Module):
    """The original GAN loss as softplus of logits, non-saturating (Goodfellow et al. 2014; paper §4: weight 0.1).

    Args:
        weight: Weight of the decoder's term; the discriminator's terms, which have an optimizer of their own, have
            weight 1.

    Example:
        >>> loss = AdversarialLoss()
        >>> real, decoded = torch.full((1, 1, 2, 4, 8), 3.0), torch.zeros(1, 1, 2, 4, 8)
        >>> loss(decoded)
        {'adversarial': tensor(0.0693)}
        >>> loss.discriminator(real, decoded)
        {'discriminator_real': tensor(0.0486), 'discriminator_decoded': tensor(0.6931)}
    """

    def __init__(self, *, weight: float = 0.1) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, decoded_logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """The decoder's side: `softplus(-logits)`, low where decoded video passes for real.

        Args:
            decoded_logits: The discriminator's logits of decoded video, of any shape.

        Returns:
            The weighted term by name.
        """
        return {"adversarial": self.weight * softplus(-decoded_logits.float()).mean()}

    def discriminator(self, real_logits: torch.Tensor, decoded_logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """The discriminator's side: `softplus(-logits)` of real and `softplus(logits)` of decoded video.

        Args:
            real_logits: The discriminator's logits of real video, of any shape.
            decoded_logits: Those of decoded video; detach the video, so that the decoder gets no gradient.

        Returns:
            The two terms by name.
        """
        return {
            "discriminator_real": softplus(-real_logits.float()).mean(),
            "discriminator_decoded": softplus(decoded_logits.float()).mean(),
        }
