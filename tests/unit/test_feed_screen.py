"""What of a list is taken: nothing that would hit us, nothing implausible."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl import config
from cdnctl.cli import main
from cdnctl.defence.feeds import screen
from cdnctl.defence.feeds.entries import FeedError
from cdnctl.defence.feeds.formats import parse
from cdnctl.defence.feeds.prefixes import Prefixes, of_networks
from cdnctl.defence.protected import Surroundings, protected

CONFIG = """
[edge]
name = "ams1"
interfaces = ["eth0"]
snat = ["203.0.113.10"]
management = ["198.18.0.0/24"]

[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:443", "[2001:db8:a::10]:443"]

[[service]]
name = "www"
vip = "203.0.113.80"
port = 443
"""
HOSTILE = b"""\
192.0.2.0/24
0.0.0.0/0
203.0.113.0/26
203.0.113.80
198.51.100.0/24
198.18.0.7
172.30.0.0/16
151.101.0.0/17
151.101.128.0/17
192.0.3.0/24
64.7.7.7
10.1.2.3
::/0
::/80
2001:db8:a::/48
2001:db8:b::/48
fd00::/16
192.0.2.77
"""
"""Lines 1, 10, 11, 16 and 18 are fair game."""


def guarded() -> list[screen.Protected]:
    file = config.parse(CONFIG, Path("cdnctl.toml"))
    around = Surroundings(ssh_peers=("64.7.7.8",))
    provider = screen.ranges_of("borealis", of_networks([ip_network("151.101.0.0/16")]))
    return [*protected(file, around), *provider, *screen.private()]


def test_what_would_hit_us_is_skipped_and_named_and_the_rest_taken() -> None:
    brought = screen.screen(parse(HOSTILE), guarded())
    assert list(brought.whole().shown()) == ["64.7.7.7", "192.0.2.0/23", "2001:db8:b::/48"]
    assert brought.entries == 18
    assert brought.skipped_total == 13
    why = {(each.line, each.prefix): each.why for each in brought.skipped}
    assert {line for line, _ in why} == set(range(1, 19)) - {1, 10, 11, 16, 18}
    for line, prefix, words in [
        (2, "0.0.0.0/0", "too wide"),
        (3, "203.0.113.0/26", "covers 203.0.113.10, an SNAT address"),
        (4, "203.0.113.80", "is 203.0.113.80, the VIP of service www"),
        (5, "198.51.100.0/24", "covers 198.51.100.10, an endpoint of aurora"),
        (6, "198.18.0.7", "lies in 198.18.0.0/24, a management prefix"),
        (7, "172.30.0.0/16", "lies in 172.16.0.0/12, a private range"),
        (8, "151.101.0.0/17", "lies in 151.101.0.0/16, a range of borealis"),
        (12, "10.1.2.3", "lies in 10.0.0.0/8, a private range"),
        (13, "::/0", "too wide"),
        (14, "::/80", "none that holds IPv4"),
        (15, "2001:db8:a::/48", "covers 2001:db8:a::10, an endpoint of aurora"),
        (17, "fd00::/16", "lies in fc00::/7, a private range"),
    ]:
        assert words in why[line, prefix]


def test_the_operators_own_address_is_skipped() -> None:
    brought = screen.screen(parse(b"64.7.7.0/24\n64.7.8.0/24\n"), guarded())
    assert list(brought.whole().shown()) == ["64.7.8.0/24"]
    assert brought.skipped[0].why == "covers 64.7.7.8, an operator logged in over SSH"


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)), max_size=60))
def test_nothing_that_is_protected_is_ever_brought(pairs: list[tuple[int, int]]) -> None:
    around = 0xCB007100  # half of them near the VIP
    networks = [
        ip_network((around | number & 0xFF if number & 1 else number, length), strict=False)
        for number, length in pairs
    ]
    text = "\n".join(["192.0.2.1", *map(str, networks)])
    brought = screen.screen(parse(text.encode()), guarded()).whole()
    for each in guarded():
        assert not brought.overlapping(each.network)
    assert brought.overlapping(ip_network("192.0.2.1"))


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        (1000, 499, True),
        (1000, 500, False),
        (1000, 100_0, False),
        (15, 5, False),
        (15, 4, True),
        (9, 1, False),
    ],
)
def test_a_sharply_shrunk_list_is_refused(before: int, now: int, refused: bool) -> None:
    text = "\n".join(f"20.0.{number // 250}.{number % 250}" for number in range(now))
    brought = screen.screen(parse(text.encode()))
    last = screen.Last(before, Prefixes())
    if refused:
        with pytest.raises(FeedError, match="the last good list stays"):
            screen.require_plausible(brought, last, "x")
    else:
        assert screen.require_plausible(brought, last, "x").added == brought.whole()


def test_a_list_of_nothing_but_a_heading_is_refused() -> None:
    with pytest.raises(FeedError, match="has no entries"):
        screen.require_plausible(screen.screen(parse(b"# soon more\n")), None, "x")


def test_what_changes_is_said() -> None:
    old = screen.screen(parse(b"192.0.2.0/25\n198.51.100.7\n"))
    new = screen.screen(parse(b"192.0.2.0/25\n192.0.2.128/25\n198.51.100.7\n"))
    change = screen.require_plausible(new, screen.Last(old.entries, old.whole()), "x")
    assert list(change.added.shown()) == ["192.0.2.0/24"]
    assert list(change.removed.shown()) == ["192.0.2.0/25"]


MILLION = """
import random, sys, time
from ipaddress import ip_network
from cdnctl.defence.feeds import screen
from cdnctl.defence.feeds.formats import parse
from cdnctl.defence.feeds.origins import Origins
chance = random.Random(7)
count = int(sys.argv[1])
lines = [f"{n * 5 // 65536 + 20}.{n * 5 // 256 % 256}.{n * 5 % 256}." for n in range(count)]
chance.shuffle(lines)
lines = [f"{net}0/24" if n % 4 == 0 else f"{net}{chance.randrange(256)}" for n, net in enumerate(lines)]
data = "\\n".join(lines).encode()
changed = "\\n".join(lines[1000:] + [f"101.{n >> 8}.{n & 255}.7" for n in range(1000)]).encode()
del lines
guarded = screen.private()
guarded += [screen.Protected(ip_network(f"30.{n >> 8}.{n & 255}.0/24"), "x") for n in range(2000)]
times = []
def lap(start=[time.process_time()]):
    now = time.process_time(); times.append(now - start[0]); start[0] = now
origins = Origins(); lap(); times.clear()
first = screen.screen(parse(data), guarded); lap()
last = screen.Last(first.entries, first.whole())
origins.replace("x", last.prefixes); lap()
second = screen.screen(parse(changed), guarded); lap()
change = screen.require_plausible(second, last, "x")
done = origins.replace("x", second.whole()); lap()
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
counts = first.entries, first.count, first.skipped_total, len(done.added), len(done.removed)
print(*counts, *times, peak / 1024)
"""


@pytest.mark.parametrize("count", [200_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_a_million_prefixes(count: int) -> None:
    """Parsed, checked, joined within seconds and 400 MB; a change of 1,000 found in it."""
    done = subprocess.run(
        [sys.executable, "-c", MILLION, str(count)], capture_output=True, text=True, timeout=120, check=True
    )
    words = done.stdout.split()
    entries, brought, skipped, added, removed = map(int, words[:5])
    first_s, into_s, second_s, change_s, peak_mb = map(float, words[5:])
    print(
        f"{count:,}: {first_s:.1f} s, into origins {into_s:.2f} s;"
        f" changed: {second_s:.1f} s, {change_s:.2f} s; {peak_mb:.0f} MB"
    )
    assert entries == count
    assert 0 < skipped < 20_000
    assert 0 < brought <= entries - skipped
    assert 900 <= added <= 2500
    assert 900 <= removed <= 2500
    assert first_s < 6 * count / 10**6  # of this process, so that neighbours do not count
    assert second_s < 6 * count / 10**6
    assert change_s < 0.5
    assert peak_mb < 400


def test_feed_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cdnctl.toml").write_text(CONFIG)
    (tmp_path / "list.txt").write_bytes(HOSTILE)
    words = ["feed", "check", str(tmp_path / "list.txt"), "-c", str(tmp_path / "cdnctl.toml")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "18 entries" in out
    assert "line 4: 203.0.113.80 is 203.0.113.80, the VIP of service www" in out
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["entries"], report["warnings"]) == (18, [])
    assert {each["line"] for each in report["skipped"]} >= {2, 3, 4, 5, 6, 7, 12, 13, 14, 15, 17}


@pytest.mark.parametrize("words", [["feed", "check", "{list}"], ["simulate", "{list}"]])
def test_neither_console_nor_compiler_is_loaded(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "list").write_text("192.0.2.1\n")
    program = (
        "import sys; from cdnctl.cli import main; main(sys.argv[1:]);"
        "print(sorted({'textual', 'bcc', 'httpx', 'rich.table'} & sys.modules.keys()), file=sys.stderr)"
    )
    line = [word.format(list=tmp_path / "list") for word in words]
    done = subprocess.run([sys.executable, "-c", program, *line], capture_output=True, text=True, timeout=60)
    assert done.stderr.endswith("[]\n"), done.stderr


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["feed", "check", "/nowhere/list.txt"], 1, "cannot read /nowhere/list.txt"),
        (["feed", "check", "/"], 1, "cannot read /: Is a directory"),
        (["feed", "check", "ftp://x/y"], 1, "no such kind of address"),
        (["feed", "check", "http://127.0.0.1:1/x"], 1, "cannot fetch"),
        (["feed", "check", "/etc/hostname", "-c", "/nowhere/c.toml"], 1, "no such file"),
    ],
)
def test_feed_check_refuses(
    words: list[str], status: int, message: str, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == status
    assert message in capsys.readouterr().err
    assert main([*words, "--json"]) == status
    assert message in json.loads(capsys.readouterr().out)["error"]["message"]
