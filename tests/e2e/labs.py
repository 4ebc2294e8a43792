"""One lab for all modules of tests: what is built is kept, what was done to it is taken back.

The data path stays too, where it can, since it takes seconds to compile: a module's agent takes it over,
with tables that remember no fault and no switch.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import pytest
from live import LIMITS, programs

from cdnctl import paths
from cdnctl.datapath import abi
from cdnctl.datapath.tables import Tables
from cdnctl.lab import netns, record, settings
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import LabError

NAMES = ("e2e", "e2e-b", "e2e-c", "e2e-d")
"""The first that no other run of these tests has taken; of two workers each begins with its own."""
XDP_FLAGS_DRV_MODE = 1 << 2


class Labs:
    """Hands out the lab, each time as new."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._lab: Lab | None = None

    def fresh(self, *, agent: bool = True, without: str = "", **tables: Mapping[str, Any]) -> Lab:
        """The lab as built, with this configuration, and an agent that has just started, or none.

        `tables` are as `Lab` takes them; `without` leaves one CDN out of the configuration.
        """
        if self._lab is not None:
            try:
                take_back(self._lab, keep=agent and not self._session.testsfailed)
            except (LabError, OSError):  # a test has broken it for good
                self.close()
        if self._lab is None:
            self._lab = built()
        lab = self._lab
        config = settings.document(lab.topology, lab.weights, {"limits": LIMITS, **tables})
        config["cdn"] = [cdn for cdn in config["cdn"] if cdn["name"] != without]
        lab.write_config(config)
        if agent:
            lab.start_agent()
        return lab

    def close(self) -> None:
        """Take it down."""
        lab, self._lab = self._lab, None
        if lab is not None:
            assert lab.close() == []


def built() -> Lab:
    """A lab of a free name."""
    own = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    running = [name for name in NAMES if (found := record.load(name)) and found.owner.alive()]
    free = [name for name in (*NAMES[own:], *NAMES[:own]) if name not in running]
    lab = Lab((free or NAMES)[0])  # which says who has it
    try:
        lab.build()
    except BaseException:
        lab.close()
        raise
    return lab


def take_back(lab: Lab, *, keep: bool) -> None:
    """End everybody's load, the agent and all faults, also after a failure; `keep` the data path if it is
    whole, with tables as new, but for what is counted and open.
    """
    lab.quiet()
    lab.stop_agent(kill=True)
    shutil.rmtree(lab.directory / "state", ignore_errors=True)
    for file in paths.run_dir().glob(f"{lab.name}.*"):
        file.unlink()
    if keep and set(programs(lab)) == set(lab.topology.edge_links):
        forget_faults(Tables(paths.tables_dir(lab.name)))
    else:
        remove_data_path(lab)
    with netns.entered(lab.topology.edge):
        for name in ("all", *lab.topology.edge_links):
            netns.sysctl(f"net.ipv4.conf.{name}.forwarding", 0)
            netns.sysctl(f"net.ipv6.conf.{name}.forwarding", 0)
    lab.topology.route_to_sites()
    for name in lab.sites:
        lab.heal(name)
        lab.narrow(name, None)
        lab.restore(name)


def forget_faults(tables: Tables) -> None:
    """Everybody is in, and armed; the shield is not up for a flood of before."""
    tables.mode = abi.Mode(0)
    shield = tables.shield.now
    shield.level = abi.Level.CALM
    tables.shield.now = shield
    for identity in tables.choice.endpoints().values():
        tables.put_health(identity, abi.Health())
    for pool in abi.Pool:
        tables.put_weight_out(pool, 0)


def remove_data_path(lab: Lab) -> None:
    """Without asking anybody."""
    with netns.netlink(lab.topology.edge) as ip:
        for name in programs(lab):
            index = ip.link_lookup(ifname=name)[0]
            ip.link("set", index=index, xdp_fd=-1, xdp_flags=XDP_FLAGS_DRV_MODE)
    shutil.rmtree(paths.pin_dir(lab.name), ignore_errors=True)
