"""The data path that the packet tests share: loaded once, emptied for each test, gone at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import harness
import netbox
import pytest
import roomy
from blocking import FOUR, SIX, Guarded, Names
from changing import engine  # noqa: F401  (a fixture)
from headroom import filled_headroom  # noqa: F401  (a fixture)
from moved import begin, meanwhile, served  # noqa: F401  (fixtures)
from roomy import Roomy
from session import Session
from trying import bare, emptied  # noqa: F401  (fixtures)

from cdnctl.datapath.program import mount_bpffs
from cdnctl.lab import netns


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Loading a program needs root; and some of what it does is timed, on a machine with neighbours."""
    for item in items:
        if item.path.parent.name == "packet":
            if not item.get_closest_marker("race"):
                item.add_marker(pytest.mark.flaky(reruns=1))
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="BPF needs root"))


@pytest.fixture(scope="package")
def indexes() -> Iterator[dict[str, int]]:
    """The interfaces of the test's own network namespace."""
    mount_bpffs()
    with netbox.made() as indexes:
        yield indexes


@pytest.fixture
def inside(indexes: dict[str, int]) -> Iterator[dict[str, int]]:
    """The test's thread is in that namespace."""
    with netns.entered(netbox.name()):
        yield indexes


@pytest.fixture(scope="package")
def loaded(indexes: dict[str, int]) -> Iterator[harness.DataPath]:
    """Compiled, loaded, configured."""
    with netns.entered(netbox.name()):
        path = harness.load(indexes)
    yield path
    path.close()


@pytest.fixture
def path(loaded: harness.DataPath, inside: dict[str, int]) -> harness.DataPath:
    """The data path with nothing in it."""
    loaded.fresh()
    return loaded


@pytest.fixture
def session(path: harness.DataPath) -> Session:
    """One that has not begun."""
    return Session(path)


@pytest.fixture
def opened(session: Session) -> Session:
    """One with its handshake behind it."""
    return session.open()


@pytest.fixture
def guarded(path: harness.DataPath) -> Guarded:
    """Blocks can be made."""
    return Guarded(path)


@pytest.fixture(params=[FOUR, SIX], ids=["IPv4", "IPv6"])
def at(request: pytest.FixtureRequest) -> Names:
    """One family and then the other."""
    names: Names = request.param
    return names


@pytest.fixture(scope="package")
def roomy_loaded(indexes: dict[str, int]) -> Iterator[Roomy]:
    """Another edge beside it, with more CDNs."""
    with netns.entered(netbox.name()):
        edge = roomy.load(indexes)
    yield edge
    edge.close()


@pytest.fixture
def edge(roomy_loaded: Roomy, inside: dict[str, int]) -> Iterator[Roomy]:
    """With nothing in it; all CDNs weigh the same."""
    roomy_loaded.fresh()
    yield roomy_loaded
    roomy_loaded.steer()
