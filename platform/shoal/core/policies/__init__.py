"""What may be chosen differently: placement, eviction and scaling, each one function behind one signature."""

from __future__ import annotations

from dataclasses import dataclass

from shoal.core.policies.eviction import EvictionPolicy, least_recently_used
from shoal.core.policies.placement import PlacementPolicy, roomiest
from shoal.core.policies.scaling import ScalingPolicy, by_use


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies a core decides by."""

    place: PlacementPolicy = roomiest
    evict: EvictionPolicy = least_recently_used
    scale: ScalingPolicy = by_use
