"""The policies by themselves: numbers in, a choice out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.core.policies.eviction import Candidate, Need, least_recently_used
from shoal.core.policies.placement import Site, roomiest
from shoal.core.policies.scaling import Demand, by_use
from shoal.core.settings import CoreSettings
from shoal.core.types import PodId, RevisionId


def copies(*specs: tuple[str, int, float]) -> list[Candidate]:
    return [Candidate(RevisionId(name), size, used) for name, size, used in specs]


def nobody(revision: RevisionId) -> None:
    return None


class TestEviction:
    def test_takes_the_coldest_until_enough(self) -> None:
        plan = least_recently_used(Need(50), copies(("a", 30, 1), ("b", 30, 2), ("c", 30, 3)), nobody)
        assert (plan.victims, plan.enough, plan.hottest) == (("a", "b"), True, 2)

    def test_needs_nothing(self) -> None:
        assert least_recently_used(Need(0), copies(("a", 30, 1)), nobody).victims == ()

    def test_spares_what_is_as_hot_as_the_load(self) -> None:
        plan = least_recently_used(Need(50, colder_than=2), copies(("a", 30, 1), ("b", 30, 2)), nobody)
        assert (plan.victims, plan.enough) == (("a",), False)

    def test_says_what_it_spares_and_why(self) -> None:
        plan = least_recently_used(
            Need(20), copies(("a", 30, 1), ("b", 30, 2)), lambda r: "is kept" if r == "a" else None
        )
        assert (plan.victims, plan.spared) == (("b",), (("a", "is kept"),))

    def test_takes_the_reluctant_last(self) -> None:
        need = Need(40, reluctant=frozenset({RevisionId("a")}))
        assert least_recently_used(need, copies(("a", 30, 1), ("b", 40, 2)), nobody).victims == ("b",)
        assert least_recently_used(replace(need, bytes=50), copies(("a", 30, 1), ("b", 40, 2)), nobody).victims == (
            "b",
            "a",
        )

    @given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 100)), max_size=12), st.integers(0, 300))
    def test_is_a_prefix_of_the_order_and_no_longer_than_needed(
        self, specs: list[tuple[int, float]], need: int
    ) -> None:
        order = sorted(
            copies(*((f"m{number}", size, used) for number, (size, used) in enumerate(specs))),
            key=lambda copy: copy.last_used,
        )
        plan = least_recently_used(Need(need), order, nobody)
        chosen = order[: len(plan.victims)]
        assert plan.victims == tuple(copy.revision for copy in chosen)
        assert plan.enough == (sum(copy.size_bytes for copy in chosen) >= need)
        if chosen:
            assert sum(copy.size_bytes for copy in chosen[:-1]) < need


def site(name: str, **changes: object) -> Site:
    base = Site(PodId(name), True, 0, 0.0, 0, 0, 0.0, 100, 0)
    return replace(base, **changes)  # type: ignore[arg-type]


class TestPlacement:
    @pytest.mark.parametrize(
        ("better", "worse"),
        [
            pytest.param({"fits": True, "copies": 9}, {"fits": False, "evicts": 1}, id="free space first"),
            pytest.param({"copies": 1}, {"copies": 2}, id="fewer copies"),
            pytest.param({"waiting": 0}, {"waiting": 1}, id="shorter queue"),
            pytest.param({"busy": 1.0}, {"busy": 2.0}, id="less busy"),
            pytest.param({"free_bytes": 50}, {"free_bytes": 40}, id="more space"),
            pytest.param({"spread": 1}, {"spread": 2}, id="spread"),
            pytest.param(
                {"fits": False, "evicts": 3, "costs": 1.0},
                {"fits": False, "evicts": 1, "costs": 2.0},
                id="coldest victims",
            ),
        ],
    )
    def test_prefers(self, better: dict[str, object], worse: dict[str, object]) -> None:
        for order in (("x", "y"), ("y", "x")):
            sites = [site(name, **(better if name == "x" else worse)) for name in order]
            choice = roomiest(sites)
            assert choice.pod == "x"
            assert [rejected.pod for rejected in choice.rejected] == ["y"]
            assert choice.rejected[0].why

    def test_says_why(self) -> None:
        assert roomiest([site("x", fits=False, evicts=2)]).because == "evicts 2, the coldest there are"
        assert roomiest([site("x", fits=False)]).because == "space is about to become free"
        assert roomiest([site("x")]).because == "100 bytes free, 0 copies"


CALM = Demand(
    copies=1,
    coming=0,
    pods=4,
    least=0,
    most=None,
    rpm=10.0,
    steady=False,
    idle=0.0,
    calm=float("inf"),
    space_short=False,
    strained=False,
)


class TestScaling:
    @pytest.mark.parametrize(
        ("changes", "wanted"),
        [
            pytest.param({}, 1, id="as it is"),
            pytest.param({"steady": True}, 2, id="second copy"),
            pytest.param({"steady": True, "space_short": True}, 1, id="no second copy when space is short"),
            pytest.param({"steady": True, "most": 1}, 1, id="not beyond the limit"),
            pytest.param({"steady": True, "pods": 1}, 1, id="not beyond the pods"),
            pytest.param({"steady": True, "coming": 1}, 1, id="not while another comes"),
            pytest.param({"rpm": 2500.0}, 2, id="load"),
            pytest.param({"steady": True, "strained": True}, 1, id="no second copy when the machine is full"),
            pytest.param({"rpm": 2500.0, "strained": True}, 1, id="no copy for load when the machine is full"),
            pytest.param({"rpm": 2500.0, "space_short": True}, 2, id="load counts even then"),
            pytest.param({"rpm": 60_000.0, "pods": 12}, 5, id="a third of the pods at once"),
            pytest.param({"rpm": 60_000.0, "pods": 4}, 3, id="two at once on few pods"),
            pytest.param({"rpm": 60_000.0, "pods": 12, "most": 3}, 3, id="load within the limit"),
            pytest.param({"copies": 3, "most": 2}, 2, id="limit lowered"),
            pytest.param({"copies": 2, "space_short": True, "idle": 700.0}, 1, id="idle second copy"),
            pytest.param({"copies": 2, "space_short": True, "idle": 60.0}, 2, id="used second copy"),
            pytest.param({"copies": 2, "idle": 7000.0}, 2, id="space enough"),
            pytest.param({"copies": 2, "space_short": True, "idle": 700.0, "least": 2}, 2, id="at least"),
            pytest.param({"copies": 3, "space_short": True}, 2, id="fewer carry it"),
            pytest.param({"copies": 3, "space_short": True, "rpm": 2600.0}, 2, id="fewer just carry it"),
            pytest.param({"copies": 3, "space_short": True, "rpm": 3000.0}, 3, id="fewer could not"),
            pytest.param({"copies": 3, "space_short": True, "calm": 30.0}, 3, id="no oscillation"),
            pytest.param({"copies": 0, "steady": True}, 0, id="not loaded at all"),
        ],
    )
    def test_wants(self, changes: dict[str, object], wanted: int) -> None:
        scale = by_use(replace(CALM, **changes), CoreSettings())  # type: ignore[arg-type]
        assert scale.copies == wanted
        assert scale.because
