"""Sizes: predicted by format, learned, and measured growth shared out fairly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_runtime.memory import KIB, GrowthMeter, SizeBook
from shoal_runtime.servers.mlserver import FORMATS

DEFAULT = 1_000_000
MIB = 1024 * KIB


def test_formats_differ_in_what_a_byte_on_disk_costs() -> None:
    book = SizeBook(DEFAULT, FORMATS)
    assert book.predict("m", "sklearn", 20 * MIB) == 8 * KIB + 25 * MIB
    assert book.predict("m", "lightgbm", 10 * MIB) == 64 * KIB + 30 * MIB
    assert book.predict("m", "onnx", 500) == 80 * KIB + 3000
    assert book.predict("m", "never heard of", 1000) == 8 * KIB + 1250


def test_without_a_size_on_disk_it_is_the_formats_average_or_the_default() -> None:
    book = SizeBook(DEFAULT, FORMATS)
    assert book.predict("m", "sklearn", None) == DEFAULT
    book.learn("other", "sklearn", 2 * MIB, 5 * MIB)
    assert book.predict("m", "sklearn", None) == 5 * MIB
    assert book.predict("m", "onnx", None) == DEFAULT


def test_one_multiplier_for_all_replaces_the_rules() -> None:
    book = SizeBook(DEFAULT, FORMATS, multiplier=2.0)
    assert book.predict("m", "lightgbm", 1000) == 2000
    assert book.weigh("m", "lightgbm", 1000, 999) == 2000
    assert book.weigh("m", "lightgbm", 1000, 1000) == 1000


def test_a_revision_once_measured_is_known() -> None:
    book = SizeBook(DEFAULT, FORMATS)
    book.learn("m", "sklearn", 1000, 123_456)
    assert book.predict("m", "sklearn", 1000) == 123_456


def test_a_revision_is_counted_with_the_middle_of_what_it_was_measured_to_take() -> None:
    book = SizeBook(DEFAULT, FORMATS)
    sizes = [book.weigh("m", "sklearn", 4 * MIB, grown * MIB) for grown in (8, 4, 4, 8, 4)]
    assert [size // MIB for size in sizes] == [8, 4, 4, 4, 4]


def test_growth_into_freed_memory_says_nothing() -> None:
    book = SizeBook(DEFAULT, FORMATS)
    assert book.weigh("m", "sklearn", 4 * MIB, MIB) == 8 * KIB + 5 * MIB
    assert book.weigh("m", "sklearn", 4 * MIB, 4 * MIB) == 4 * MIB
    assert book.weigh("m", "sklearn", 4 * MIB, 0) == 4 * MIB
    for number in range(3):
        book.learn(f"like {number}", "sklearn", 4 * MIB, 4 * MIB)
    assert book.weigh("another", "sklearn", 8 * MIB, 0) == pytest.approx(8 * MIB, rel=0.01)


def test_a_format_that_is_larger_than_its_rule_is_learned_from_large_models_only() -> None:
    book = SizeBook(DEFAULT, FORMATS)
    for number in range(20):
        book.learn(f"tiny{number}", "xgboost", 10, 100)
    assert book.predict("m", "xgboost", 10 * MIB) == 64 * KIB + 10 * MIB
    for number in range(30):
        book.learn(f"large{number}", "xgboost", 10 * MIB, 40 * MIB)
    assert 38 * MIB < book.predict("m", "xgboost", 10 * MIB) < 41 * MIB


def test_growth_goes_to_whoever_was_loading() -> None:
    meter = GrowthMeter()
    meter.begin("a", 100, 1000)
    meter.begin("b", 300, 1100)
    assert meter.end("a", 1500) == 100 + 100
    assert meter.end("b", 1600) == 300 + 100
    meter.begin("c", 100, 5000)
    assert meter.end("c", 4000) == 0


def test_without_measurements_nothing_is_known() -> None:
    meter = GrowthMeter()
    meter.begin("a", 100, None)
    assert meter.end("a", None) is None
    assert meter.end("never begun", 5) is None


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.booleans(), st.integers(0, 10_000), st.integers(1, 500)),
        max_size=40,
    )
)
def test_no_more_is_shared_out_than_the_process_grew(events: list[tuple[str, bool, int, int]]) -> None:
    meter, active, total, growth, last = GrowthMeter(), set(), 0, 0, None
    for model_id, begins, size, expected in events:
        if last is not None and active:
            growth += max(0, size - last)
        last = size
        if begins and model_id not in active:
            meter.begin(model_id, expected, size)
            active.add(model_id)
        elif not begins and model_id in active:
            share = meter.end(model_id, size)
            assert share is not None
            assert share >= 0
            total += share
            active.discard(model_id)
    assert total <= growth
