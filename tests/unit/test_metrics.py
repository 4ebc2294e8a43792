"""Metrics of a frame: right names and labels, exact histograms, no addresses, and nothing breaks the text."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess

import pytest
from metrics_frame import frame, histogram, limits_us, times
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from cdnctl import __version__
from cdnctl.datapath import abi
from cdnctl.metrics.cdns import LIMITS_US
from cdnctl.metrics.text import families, text
from cdnctl.metrics.times import Times
from cdnctl.model import CdnCell, CellPlan, PlannerPicture

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def said(found: bytes) -> Samples:
    parsed = text_string_to_metric_families(found.decode())
    return {(each.name, frozenset(each.labels.items())): each.value for one in parsed for each in one.samples}


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"cdnctl_{name}", frozenset(labels.items())]


@pytest.fixture(scope="module")
def samples() -> Samples:
    return said(text(frame(), times()))


def test_what_a_frame_says_is_said(samples: Samples) -> None:
    assert of(samples, "frame_seq") == 17
    assert of(samples, "frame_timestamp_seconds") == 1_700_000_000.5
    assert of(samples, "agent_start_time_seconds") == 1_600_000_000
    assert of(samples, "build_info", version=__version__, edge="ams1") == 1
    assert [of(samples, "interface_attached", interface=name) for name in ("eth0", "eth1")] == [1, 0]
    assert of(samples, "verdict_packets_total", verdict="forwarded") == 9
    assert of(samples, "drop_packets_total", reason="blocked") == float(2**60)
    assert ("cdnctl_drop_packets_total", frozenset({("reason", "forwarded")})) not in samples
    assert of(samples, "clients", role="view") == 1
    assert of(samples, "customer_dropped_packets_total", customer="acme") == 6
    assert of(samples, "map_pressure_ratio", map="established") == 0.25
    assert of(samples, "map_pressure_ratio", map="reverse") == 0, "of no room nothing is taken"
    assert of(samples, "blocklist_desired_entries", source="manual") == 3
    assert of(samples, "blocklist_desired_prefixes") == 3
    assert (
        of(samples, "cdn_failovers_total", **{"from": "aurora", "to": "others", "reason": "unanswered"}) == 8
    )


def test_what_the_planner_leaves_a_cdn_of_a_region_and_class() -> None:
    one, two = frame().cdns
    timed = [
        CdnCell(region=region, traffic_class="video", p50_ms=1, p95_ms=2, requests=3, requests_total=4)
        for region in ("eu", "")
    ]
    factors = {"eu": 0.4, "us": 0.7}
    less = [
        CellPlan(region=region, traffic_class="video", factor=factor) for region, factor in factors.items()
    ]
    one = replace(one, cells=timed, plan=replace(one.plan, cells=less))
    planned = replace(frame(), cdns=[one, two], planner=PlannerPicture(mode="on", acts=True))
    found = said(text(planned, times()))
    ratios = {
        dict(labels)["region"]: value
        for (name, labels), value in found.items()
        if name == "cdnctl_cdn_planned_cell_ratio"
    }
    assert ratios == {"eu": 0.4, "us": 0.7, "": 1}
    eu = {"cdn": "aurora", "region": "eu", "class": "video"}
    assert of(found, "cdn_planned_cell_ratio", **eu) == 0.4


def test_a_cdn_is_up_unless_the_kernel_has_it_out(samples: Samples) -> None:
    assert [of(samples, "cdn_up", cdn=name) for name in ("aurora", "borealis")] == [1, 0]
    states = {name: of(samples, "cdn_state", cdn="aurora", state=name) for name in ("in", "partly", "out")}
    assert states == {"in": 0, "partly": 1, "out": 0}
    drained = [replace(each, state="drained") for each in frame().cdns]
    of_drained = said(text(replace(frame(), cdns=drained), times()))
    assert of(of_drained, "cdn_up", cdn="borealis") == 1, "an operator's drain is no outage"


def test_a_cdn_is_wanted_with_a_weight_and_undrained(samples: Samples) -> None:
    assert [of(samples, "cdn_wanted", cdn=name) for name in ("aurora", "borealis")] == [1, 1]
    one, two = frame().cdns
    others = [replace(one, state="drained"), replace(two, wanted_weight=0, state="in")]
    said_now = said(text(replace(frame(), cdns=others), times()))
    assert [of(said_now, "cdn_wanted", cdn=name) for name in ("aurora", "borealis")] == [0, 0]


def test_the_worst_endpoint_stands_for_its_cdn_without_its_address(samples: Samples) -> None:
    assert of(samples, "cdn_ports_held_ratio", cdn="aurora") == 0.5
    assert of(samples, "cdn_ports_exhausted_in_seconds", cdn="aurora") == 90


def test_what_is_not_known_is_not_said(samples: Samples) -> None:
    assert of(samples, "cdn_open_flows", cdn="aurora") == 3
    assert ("cdnctl_cdn_open_flows", frozenset({("cdn", "borealis")})) not in samples


def test_a_pending_confirmation_is_told(samples: Samples) -> None:
    assert of(samples, "commit_pending") == 0


def test_the_level_under_attack_has_a_gauge_by_name(samples: Samples) -> None:
    levels = ("calm", "busy", "shedding", "siege")
    assert [of(samples, "shield_level", level=level) for level in levels] == [1, 0, 0, 0]


def is_address(word: str) -> bool:
    try:
        ipaddress.ip_interface(word)
    except ValueError:
        return False
    return True


def test_no_label_is_an_address(samples: Samples) -> None:
    for name, labels in samples:
        for key, value in labels:
            for part in re.split(r"[\s,;\"]+", value):
                assert not is_address(part), f"{name}: {key}={value}"


def test_odd_text_in_a_label_breaks_nothing(samples: Samples) -> None:
    assert of(samples, "blocklist_desired_entries", source='a"b\\c\n') == 1


# --- histograms ------------------------------------------------------------------------------------


def test_buckets_are_exact() -> None:
    """Whatever took less than a limit is below it, and nothing else, at every microsecond about each."""
    for limit_us in LIMITS_US:
        us = int(limit_us)
        counts = {f"us{us - 1}": 1, f"us{us}": 10, f"us{us + 1}": 100}
        found = said(text(frame(), {"aurora": Times(histogram(**counts), histogram())}))
        le = str(limit_us / 1e6)
        assert of(found, "cdn_handshake_seconds_bucket", cdn="aurora", le=le) == 1
        assert of(found, "cdn_handshake_seconds_bucket", cdn="aurora", le="+Inf") == 111
        assert of(found, "cdn_handshake_seconds_count", cdn="aurora") == 111
        assert of(found, "cdn_handshake_seconds_sum", cdn="aurora") == pytest.approx(
            111 * us / 1e6, rel=1 / 15
        )


def test_limits_are_limits_of_the_kernels_buckets() -> None:
    edges = {high for _, high in (abi.bucket_limits_us(n) for n in range(abi.HISTOGRAM_BUCKETS))}
    assert set(LIMITS_US) <= edges
    assert list(LIMITS_US) == sorted(LIMITS_US)
    assert limits_us() == [abi.bucket_limits_us(n) for n in range(abi.HISTOGRAM_BUCKETS)]


# --- the whole -------------------------------------------------------------------------------------


def test_names_are_as_prometheus_wants_them() -> None:
    found = list(families(frame(), times()))
    names = [each.name for each in found]
    assert len(set(names)) == len(names)
    for each in found:
        assert re.fullmatch(r"cdnctl_[a-z][a-z_]+", each.name)
        assert each.documentation.endswith("."), each.name
        assert not re.search(r"_(ms|ns|us|kb|percent|pps|mbit)(_|$)", each.name), "base units"


@pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is missing: `.ci/setup.sh test` installs it"
)
def test_promtool_finds_no_fault() -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text(frame(), times()), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_frame_of_a_big_edge_is_made_quickly_and_stays_small() -> None:
    """16 CDNs and 50 customers: some 3,000 samples, within what one frame may cost the agent."""
    cdns = [replace(each, name=f"{each.name}{n}") for n in range(8) for each in frame().cdns]
    customers = [replace(frame().customers[0], name=f"customer{n}") for n in range(50)]
    big = replace(frame(), cdns=cdns, customers=customers)
    found = text(big, {each.name: times()["aurora"] for each in cdns})
    assert 1500 < len(said(found)) < 3000
    assert len(found) < 300_000
