"""What every test may ask for: third-party data, counts for pytest's summary, one Hypothesis profile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"
COUNTS = pytest.StashKey[dict[str, dict[str, int]]]()

RecordCount = Callable[[str, str, int], None]

# Two busy cores make a time limit per example a coin toss; CI draws the same examples each time, a laptop new ones.
settings.register_profile("laptop", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("laptop"), derandomize=True, print_blob=True)
settings.load_profile("ci" if IN_CI else "laptop")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer how long the fault tests go on."""
    parser.addoption(
        "--kill-rounds",
        type=int,
        default=30,
        metavar="N",
        help="how often the fault tests kill the node (30 by default)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start with no counts."""
    config.stash[COUNTS] = {}


@pytest.fixture(scope="session")
def kill_rounds(pytestconfig: pytest.Config) -> int:
    """Give the number of times that a fault test kills what it tests."""
    return int(pytestconfig.getoption("--kill-rounds"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Give the folder of third-party test data: YILIAN_SHARED_DATA, else `shared/data` beside the repository.

    Without it the test is skipped; in CI it fails, so that no run is green for want of data.
    """
    folder = Path(os.environ.get("YILIAN_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        reason = "no third-party test data: name their folder in YILIAN_SHARED_DATA"
        if IN_CI:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def record_count(pytestconfig: pytest.Config) -> RecordCount:
    """Give a function that adds a count to the summary: `record_count("refusal cases", "referral.referral", 1234)`."""
    counts = pytestconfig.stash[COUNTS]

    def record(kind: str, name: str, number: int) -> None:
        of_kind = counts.setdefault(kind, {})
        of_kind[name] = of_kind.get(name, 0) + number

    return record


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Hand a worker's counts to the process that prints the summary (pytest-xdist)."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["counts"] = session.config.stash[COUNTS]
    yield


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Add up the counts of a worker that has ended (pytest-xdist)."""
    counts = node.config.stash[COUNTS]  # type: ignore[attr-defined]  # pytest-xdist has no types
    for kind, of_kind in getattr(node, "workeroutput", {}).get("counts", {}).items():
        for name, number in of_kind.items():
            counts.setdefault(kind, {})
            counts[kind][name] = counts[kind].get(name, 0) + number


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what tests counted, a line each kind."""
    counts = config.stash[COUNTS]
    if not counts:
        return
    terminalreporter.section("counts")
    for kind, of_kind in sorted(counts.items()):
        parts = ", ".join(f"{name} {number:,}" for name, number in sorted(of_kind.items()))
        terminalreporter.write_line(f"generated {kind}: {parts}; {sum(of_kind.values()):,} in all")
