"""Announcements of changes."""

import asyncio

import pytest

from shoal.mesh.bulletin import Bulletin


async def test_waits_until_the_condition_holds():
    bulletin, seen = Bulletin(), []
    waiting = asyncio.create_task(bulletin.until("a", lambda: len(seen) >= 2, 5))
    for step in range(2):
        await asyncio.sleep(0)
        bulletin.announce(["b"])
        seen.append(step)
        bulletin.announce(["a"])
    await waiting
    assert seen == [0, 1]


async def test_gives_up_in_time():
    bulletin = Bulletin()
    with pytest.raises(TimeoutError):
        await bulletin.until("a", lambda: False, 0.01)
    bulletin.announce(["a"])
    assert not bulletin._waiting


async def test_followers_get_everything_once():
    bulletin = Bulletin()
    follower = bulletin.follow()
    first = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    bulletin.announce(["a", "b"])
    bulletin.announce(["b"])
    assert await first == {"a", "b"}
    bulletin.announce(["c"])
    assert await anext(follower) == {"c"}
    await follower.aclose()
    assert not bulletin._followers
