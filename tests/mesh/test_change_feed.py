"""Announcements of changes."""

import asyncio

import pytest

from shoal.mesh.engine.change_feed import ChangeFeed


async def test_waits_until_the_condition_holds():
    feed, seen = ChangeFeed(), []
    waiting = asyncio.create_task(feed.until("a", lambda: len(seen) >= 2, 5))
    for step in range(2):
        await asyncio.sleep(0)
        feed.announce(["b"])
        seen.append(step)
        feed.announce(["a"])
    await waiting
    assert seen == [0, 1]


async def test_gives_up_in_time():
    feed = ChangeFeed()
    with pytest.raises(TimeoutError):
        await feed.until("a", lambda: False, 0.01)
    feed.announce(["a"])
    assert not feed._waiting


async def test_followers_get_everything_once():
    feed = ChangeFeed()
    follower = feed.follow()
    first = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    feed.announce(["a", "b"])
    feed.announce(["b"])
    assert await first == {"a", "b"}
    feed.announce(["c"])
    assert await anext(follower) == {"c"}
    await follower.aclose()
    assert not feed._followers
