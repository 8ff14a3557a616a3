"""The asyncio process around the core."""
