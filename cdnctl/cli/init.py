"""`cdnctl init`: a few questions, and a configuration file that `check` takes.

What is given as an option is not asked; without a terminal nothing is, and what is missing is named.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cdnctl import paths
from cdnctl.cli import draft
from cdnctl.cli.draft import Cdn, Draft
from cdnctl.cli.surroundings import Link, links, probe, resolve
from cdnctl.datapath.host import ephemeral_ports, free_ports, is_own
from cdnctl.errors import CdnctlError, UsageError

T = TypeVar("T")


def run(options: argparse.Namespace) -> int:
    """Ask, probe, write, check."""
    file = options.config or paths.config_path()
    if file.exists() and not options.force:
        raise CdnctlError(f"{file} is there already", "name another: -c FILE, or --force to replace it")
    made = answers(options)
    text = draft.text_of(made)
    _validate(text, file)
    if options.dry_run:
        print(text, end="")
        return 0
    _write(file, text)
    print(f"written: {file}")
    print(
        f"next: `cdnctl check -c {file}` says what it costs and what is missing; `cdnctl` opens the console"
    )
    return 0


def answers(options: argparse.Namespace) -> Draft:
    """All of them, from options or a terminal. Raises UsageError."""
    asks = sys.stdin.isatty() and not options.yes
    found = links()
    made = Draft()
    made.edge = _one(asks, "name of this edge", options.name, _host(), "--name", _name)
    made.interfaces = _interfaces(asks, options.interface, found)
    question = "addresses that the CDNs will see (SNAT)"
    made.snat = _some(asks, question, options.snat, _snat(found, made.interfaces), "--snat", _address)
    made.snat_ports = _ports_left(made.snat)
    question = "prefixes that this box is managed from"
    made.management = _some(
        asks, question, options.management, _peers(), "--management", _prefix, may_be_empty=True
    )
    question = "services, as www=203.0.113.80:443/tcp+udp"
    made.services = _some(asks, question, options.service, [], "--service", draft.service)
    question = "CDNs, as aurora=cdn.example.net:443@60"
    made.cdns = _some(asks, question, options.cdn, [], "--cdn", _cdn)
    return made


# --- questions -----------------------------------------------------------------------------------------


def _ask(question: str, default: str) -> str:
    try:
        said = input(f"{question}{f' [{default}]' if default else ''}: ").strip()
    except EOFError:
        raise UsageError("the answers ended early", "`cdnctl init --help` lists what can be given") from None
    return said or default


def _one(
    asks: bool, question: str, given: str | None, default: str, option: str, read: Callable[[str], T]
) -> T:
    if given is not None or not asks:
        if not (given or default):
            raise UsageError(f"{question}: not given", f"{option} gives it")
        return read(given or default)
    while True:
        try:
            return read(_ask(question, default))
        except (UsageError, ValueError) as error:
            print(f"  {error}", file=sys.stderr)


def _some(
    asks: bool,
    question: str,
    given: list[str] | None,
    defaults: list[str],
    option: str,
    read: Callable[[str], T],
    *,
    may_be_empty: bool = False,
) -> list[T]:
    """Several, by spaces; of a CDN the commas belong to its endpoints."""
    words = [word for each in given or [] for word in each.split()]
    if words or not asks:
        words = words or defaults
        if not words and not may_be_empty:
            raise UsageError(f"{question}: not given", f"{option} gives one; it may be said several times")
        return [read(word) for word in words]
    while True:
        said = _ask(f"{question}, by spaces", " ".join(defaults)).split()
        try:
            if said or may_be_empty:
                return [read(word) for word in said]
            print("  at least one", file=sys.stderr)
        except (UsageError, ValueError) as error:
            print(f"  {error}", file=sys.stderr)


def _interfaces(asks: bool, given: list[str] | None, found: list[Link]) -> list[str]:
    if asks and not given:
        print("interfaces:")
        for link in found:
            marks = [*(["down"] if not link.up else []), *(["default route"] if link.default else [])]
            print(f"  {link.name:<15} {', '.join([*marks, *link.addresses])}")
    names = sorted(link.name for link in found)
    others = f"there are {', '.join(names) or 'none'}"

    def known(word: str) -> str:
        if word == "lo":
            raise UsageError("lo is the loopback: no client comes by it", others)
        if word not in names:
            raise UsageError(f"there is no interface {word}", others)
        return word

    default = [link.name for link in found if link.default]
    return _some(asks, "interfaces that packets come and go by", given, default, "--interface", known)


# --- what single answers are ---------------------------------------------------------------------------


def _host() -> str:
    return re.sub(r"[^a-z0-9-]", "-", socket.gethostname().partition(".")[0].lower())[:32].strip("-")


def _name(text: str) -> str:
    try:
        return paths.check_name(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise UsageError(f"'{text}' is no address") from None


def _prefix(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        remedy = f"write {ipaddress.ip_network(text, strict=False)}"
    except ValueError:
        remedy = "write 192.0.2.0/24 or 2001:db8::/32"
    raise UsageError(f"'{text}' is no prefix", remedy)


def _snat(found: list[Link], interfaces: list[str]) -> list[str]:
    addresses = [address for link in found if link.name in interfaces for address in link.addresses]
    by_family = {ipaddress.ip_address(address).version: address for address in reversed(addresses)}
    return [by_family[version] for version in sorted(by_family)]


def _ports_left(snat: list[str]) -> tuple[int, int] | None:
    """Those that the host's own connections leave free, if one of the addresses is its own."""
    if not any(map(is_own, snat)):
        return None
    return free_ports((1024, 65535), ephemeral_ports())


def _peers() -> list[str]:
    """Those who are logged in now."""
    from cdnctl.defence.protected import ssh_peers

    try:
        return sorted(str(ipaddress.ip_network(peer)) for peer in ssh_peers())
    except OSError:
        return []


def _cdn(text: str) -> Cdn:
    """A CDN whose endpoints were connected to; one that does not answer is taken, with a remark."""
    name, ends, weight = draft.cdn(text)
    made = Cdn(name=name, weight=weight)
    for host, port in ends:
        addresses = resolve(host)
        if not addresses:
            raise UsageError(f"{host} has no address", "write an address, or see `getent hosts`")
        for address in addresses:
            probed = probe(address, port)
            told = (
                f"{probed.connect_ms:.1f} ms to connect" if probed.connect_ms is not None else probed.trouble
            )
            of = f" ({host})" if host != address else ""
            print(f"  {name}: {probed.endpoint}{of}: {told}", file=sys.stderr)
            made.endpoints.append(probed.endpoint)
            made.remarks.append(f"{probed.endpoint}{of}: {told}, when this file was made")
    return made


# --- the file ------------------------------------------------------------------------------------------


def _validate(text: str, file: Path) -> None:
    """Raise UsageError for what `check` would not take: every mistake at once."""
    from cdnctl.config import ConfigError, parse

    try:
        parse(text, file)
    except ConfigError as error:
        raise UsageError("\n".join(map(str, error.problems)), "answer that otherwise") from None


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise CdnctlError(
            f"{path}: {error.strerror or error}", "run it as root, or name a file: -c FILE"
        ) from None
