"""Tests that need a program the machine lacks are skipped, and the end of the run says what is to be done about it.

Support code calls `need` where it starts such a program, so no test has to say what its helpers start. With `CI=true`
in the environment a missing tool is a failure.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator

import pytest

from tools.known import TOOLS, fixes, missing
from tools.places import put_on_path

_PROPERTY = "missing tool"
"""What the report of a test that could not run says: reports reach the process that ends the run, others do not."""


def need(*names: str) -> None:
    """Go on only if these tools are there. Programs among them are on PATH then."""
    if absent := missing(names):
        text = f"{', '.join(absent)} missing: {'; '.join(fixes(absent))}"
        failed = os.environ.get("CI") == "true"
        outcome = pytest.fail.Exception(text, pytrace=False) if failed else pytest.skip.Exception(text)
        outcome.tools = absent  # for the summary
        raise outcome


def need_program(name: str) -> None:
    """Go on only if a program can be started; those that are no tools are part of every machine."""
    if name in TOOLS:
        need(name)


def pytest_configure(config: pytest.Config) -> None:
    """Have tests, and all that they start, find the tools; but a fast run does without what was fetched."""
    if not config.getoption("fast", False):
        put_on_path()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note who could not run. A fixture's exception is raised again for each test that wants the fixture."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, pytest.skip.Exception | pytest.fail.Exception):
        report.user_properties += [(_PROPERTY, name) for name in getattr(call.excinfo.value, "tools", ())]
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """The last section of the run; pytest's own closing line comes after it."""
    yield
    without = Counter(
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == _PROPERTY
    )
    if not without:
        return
    how = "failed" if os.environ.get("CI") == "true" else "skipped"
    terminalreporter.section("missing tools", yellow=True)
    for name, tests in without.items():
        terminalreporter.line(f"{name}: {tests} {'test' if tests == 1 else 'tests'} {how}")
    for line in fixes(without):
        terminalreporter.line(f"to have what is missing: {line}")
