"""What a server of Shoal's states about itself among its extensions, for the adapter to read."""

from __future__ import annotations

from typing import Final

DRAINS: Final = "shoal.drains"
"""An unload waits for the model's requests that are under way, see `guard`."""
