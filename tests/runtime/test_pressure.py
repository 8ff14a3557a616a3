"""The kernel's measure of how short of processors the machine is."""

from pathlib import Path

import pytest

from shoal_runtime.pressure import cpu_pressure

TEXT = "some avg10={} avg60=37.79 avg300=26.84 total=492498323\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


@pytest.mark.parametrize(("said", "share"), [("0.00", 0.0), ("47.93", 0.5), ("100.00", 1.0)])
def test_the_last_ten_seconds_count(tmp_path: Path, said: str, share: float) -> None:
    file = tmp_path / "cpu"
    file.write_text(TEXT.format(said))
    assert cpu_pressure(file) == share


@pytest.mark.parametrize("text", ["", "full avg10=3.00 avg60=0\n", "some avg10=x avg60=0\n"])
def test_a_kernel_that_says_something_else_says_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "cpu"
    file.write_text(text)
    assert cpu_pressure(file) == 0


def test_a_kernel_without_it_says_nothing(tmp_path: Path) -> None:
    assert cpu_pressure(tmp_path / "cpu") == 0
