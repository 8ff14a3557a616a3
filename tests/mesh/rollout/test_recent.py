"""Requests that are remembered for warming up."""

from shoal.mesh.checks.recent import KEPT, MAX_ALL, MAX_ONE, RecentRequests


def remember(recent, endpoint, text, size=None):
    recent.remember(endpoint, len(text) if size is None else size, text.encode)


def test_only_the_newest_are_kept():
    recent = RecentRequests()
    for number in range(KEPT + 3):
        remember(recent, "digits", str(number))
    assert recent.of("digits") == [str(number).encode() for number in range(3, KEPT + 3)]
    assert recent.of("other") == []


def test_large_ones_are_not_kept():
    recent = RecentRequests()
    remember(recent, "digits", "a", MAX_ONE + 1)
    assert recent.of("digits") == []


def test_endpoints_asked_longest_ago_are_forgotten_first():
    recent = RecentRequests()
    count = MAX_ALL // MAX_ONE
    for number in range(count):
        remember(recent, f"e{number}", "x", MAX_ONE)
    remember(recent, "e0", "y", 0)
    remember(recent, "one more", "z", MAX_ONE)
    assert recent.of("e1") == []
    assert recent.of("e0") == [b"x", b"y"]
    assert recent.of("one more") == [b"z"]
    for number in range(count):
        remember(recent, f"f{number}", "x", MAX_ONE)
    assert recent.of("e0") == recent.of("one more") == []
    assert recent.of("f0") == [b"x"]


def test_what_cannot_be_made_a_message_is_left_out():
    recent = RecentRequests()
    remember(recent, "digits", "a")
    recent.remember("digits", 1, lambda: int("no number"))
    assert recent.of("digits") == [b"a"]
