"""Models on a hub: what is published and its card, how it is sent, and checks of what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.hub.card import model_card as model_card
    from gaia2.hub.facts import Facts as Facts
    from gaia2.hub.facts import read_facts as read_facts
    from gaia2.hub.folder import Contents as Contents
    from gaia2.hub.folder import contents as contents
    from gaia2.hub.publishing import Destination as Destination
    from gaia2.hub.publishing import Published as Published
    from gaia2.hub.publishing import publish as publish
    from gaia2.hub.staging import CardOptions as CardOptions
    from gaia2.hub.staging import stage as stage

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "CardOptions": "gaia2.hub.staging",
        "Contents": "gaia2.hub.folder",
        "Destination": "gaia2.hub.publishing",
        "Facts": "gaia2.hub.facts",
        "Published": "gaia2.hub.publishing",
        "contents": "gaia2.hub.folder",
        "model_card": "gaia2.hub.card",
        "publish": "gaia2.hub.publishing",
        "read_facts": "gaia2.hub.facts",
        "stage": "gaia2.hub.staging",
    },
)
