"""Answers on stdout: JSON for programs, tables for people.

Rich is imported by the functions that draw a table, and no sooner: it costs as much as all the rest.
Text from outside (reasons, names) is cleaned and never read as markup.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from cdnctl.model import (
    Allowed,
    Block,
    Cdn,
    Customer,
    Difference,
    Frame,
    Outcome,
    Revision,
    Watcher,
    share_words,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from cdnctl.cli.check import Report
    from cdnctl.model import JournalEntry

_PIPE_WIDTH = 160
"""Columns when stdout is no terminal: wide enough that nothing is cut."""
_STATE_STYLES = {
    "in": "green",
    "partly": "bold yellow",
    "out": "bold red",
    "probing": "yellow",
    "drained": "cyan",
}
_TALKERS_SHOWN = 10
_CUSTOMERS_SHOWN = 10
_PREFIXES_SHOWN = 3
_LONGEST_LINE = 10_000
_WIDE = 112
"""Columns from which the table of CDNs has all its columns."""
_TEXT_MIN_WIDTH = 7
"""Names and states stay readable on a narrow terminal."""
_HOME = "\x1b[H\x1b[J"


def print_json(value: object) -> None:
    """One line of JSON."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def error(message: str, remedy: str, as_json: bool) -> None:
    """Why something was not done: for programs always an object of this one shape."""
    if as_json:
        print_json({"error": {"message": message, "remedy": remedy}})
        return
    print(f"cdnctl: {message}", file=sys.stderr)
    if remedy:
        print(f"  {remedy}", file=sys.stderr)


def outcome(answer: Outcome, as_json: bool) -> int:
    """What became of a command; returns the exit status."""
    if not answer.ok:
        error(answer.text.removesuffix(f"\n{answer.remedy}"), answer.remedy, as_json)
        warnings(answer)
        return 1
    if as_json:
        print_json(answer)
    else:
        print(answer.text)
        if answer.service_shares:
            width = max(map(len, answer.service_shares))
            for name, shares in answer.service_shares.items():
                print(f"  {name + ':':<{width + 1}}  {share_words(shares)}")
        elif answer.shares:
            width = max(map(len, answer.shares))
            for name, share in answer.shares.items():
                print(f"  {name:<{width}}  {100 * share:5.1f} % of new flows")
        warnings(answer)
    return 0


def warnings(answer: Outcome) -> None:
    """The warnings of an answer, on stderr."""
    for warning in answer.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def frame_again(picture: Frame, as_json: bool) -> None:
    """One of a series: JSON lines, or a screen drawn over the last one."""
    if not as_json and sys.stdout.isatty():
        sys.stdout.write(_HOME)
    frame(picture, as_json)
    sys.stdout.flush()


def frame(picture: Frame, as_json: bool) -> None:
    """The state of an edge: `status`."""
    if as_json:
        print_json(picture)
        return
    out = _console()
    _headline(out, picture)
    _cdns(out, picture.cdns)
    busy = [each for each in picture.customers if each.pps or each.dropped_pps or each.refused_per_s]
    if busy:
        _customers(out, busy[:_CUSTOMERS_SHOWN])
    _drops(out, picture)
    _talkers(out, picture)


def rows(headings: Sequence[str], cells: Iterable[Sequence[str]]) -> None:
    """A table of texts; a heading that starts with `>` is of numbers."""
    table = _table(*headings)
    for each in cells:
        _add(table, *each)
    _console().print(table)


def blocks(found: Sequence[Block], as_json: bool) -> None:
    """The list of blocks."""
    if as_json:
        print_json(found)
        return
    if not found:
        print("nothing is blocked")
        return
    from cdnctl.console import format as f

    now = time.time_ns()
    table = _table("prefix", "lasts", "source", ">hits", "reason")
    for each in found:
        left = f.duration((each.expires_ns - now) / 1e9) if each.expires_ns else "forever"
        _add(table, each.prefix, left, each.source, f.count(each.hits), each.reason)
    _console().print(table)


def customers(found: Sequence[Customer], allowed: Sequence[Allowed], as_json: bool) -> None:
    """All customers with what they take and may take, and who is allowed."""
    if as_json:
        print_json({"customers": found, "allowed": allowed})
        return
    out = _console()
    if found:
        _customers(out, found)
    else:
        print("there are no customers: [[customer]] in the configuration makes one")
    if not allowed:
        return
    from cdnctl.console import format as f

    now, table = time.time_ns(), _table("allowed", "for", "reason")
    for each in allowed:
        _add(table, each.prefix, f.duration((now - each.created_ns) / 1e9), each.reason)
    out.print(table)


def watchers(found: Sequence[Watcher], as_json: bool) -> None:
    """Who is connected."""
    if as_json:
        print_json(found)
        return
    from cdnctl.console import format as f

    table = _table("user", "client", "may", ">pid", "since")
    for each in found:
        _add(table, each.user, each.client, each.role, str(each.pid), f.clock(each.since_ns))
    _console().print(table)


def journal(entries: Iterable[JournalEntry]) -> None:
    """Lines of the journal, the oldest first."""
    from rich.text import Text

    from cdnctl.console import format as f

    table = _table(">no.", "when (UTC)", "who", "command", "answer", "why")
    for each in entries:
        answer = each.text.splitlines()[0] if each.text else ""
        told = Text(f.clean(answer), "" if each.ok else "bold red")
        when, who = each.at[:19].replace("T", " "), f"{each.user} ({each.client})"
        command = each.cli.removeprefix("cdnctl ") or str(each.command.get("verb", ""))
        table.add_row(
            str(each.seq),
            *(Text(f.clean(cell)) for cell in (when, who, command)),
            told,
            Text(f.clean(each.reason)),
        )
    _console().print(table)


def revisions(found: Sequence[Revision], as_json: bool) -> None:
    """The states that are kept, the newest first."""
    if as_json:
        print_json(found)
        return
    if not found:
        print("nothing was changed yet, so no state is kept")
        return
    from cdnctl.console import format as f

    now, table = time.time_ns(), _table(">revision", "in force since", "ago")
    for each in found:
        _add(table, str(each.number), f.clock(each.at_ns), f.duration((now - each.at_ns) / 1e9))
    _console().print(table)


def differences(found: Sequence[Difference], as_json: bool) -> None:
    """What the kernel holds otherwise."""
    if as_json:
        print_json(found)
        return
    if not found:
        print("the kernel holds what is wanted")
        return
    table = _table("what", "name", "wanted", "in the kernel")
    for each in found:
        _add(table, each.what, each.name, each.wanted, each.found)
    _console().print(table)
    print("`cdnctl repair` makes it so")


def clean_text(text: str) -> str:
    """Lines of a file, without what would steer a terminal."""
    from cdnctl.console import format as f

    return "".join(f"{f.clean(line, _LONGEST_LINE)}\n" for line in text.splitlines())


def check(report: Report) -> None:
    """What `check` found."""
    if report.problems:
        print(f"{report.file}: {_plural(len(report.problems), 'mistake')}")
        for problem in report.problems:
            print(f"  {problem}")
    else:
        print(f"{report.file}: edge {report.edge} is in order")
    if report.held_back:
        print(f"  warning: {report.held_back.text}; {report.held_back.remedy}")
    for warning in report.warnings:
        print(f"  warning: {warning}")
    for note in report.notes:
        print(f"  note: {note}")
    if report.standing and report.standing.remade != "nothing":
        print(f"  loaded: {report.standing}")
        if report.standing.detach:
            print(f"    {report.standing.detach}")
    if not report.memory_bytes:
        return
    table = _table("kernel memory, tables full", ">MB")
    for name, size in report.memory_bytes.items():
        _add(table, name, f"{size / 1e6:,.1f}")
    table.add_section()
    _add(table, "together", f"{sum(report.memory_bytes.values()) / 1e6:,.1f}")
    _console().print(table)
    if report.snat_sum:
        print(f"SNAT ports: {report.snat_sum}")


# --- the parts of a status -----------------------------------------------------------------------------


def _headline(out: Console, picture: Frame) -> None:
    from rich.text import Text

    from cdnctl.console import format as f

    if not picture.loaded:
        end = f"`kill {picture.agent_pid}`, then `cdnctl attach --edge {f.clean(picture.edge)}`"
        state, style = f"NOT LOADED: no program of it is in the kernel; {end}", "bold red"
    elif picture.interfaces and all(each.mode == "detached" for each in picture.interfaces):
        state, style = "DETACHED: no packet comes by it", "bold red"
    elif picture.bypassed:
        state, style = "BYPASSED: every packet passes untouched", "bold red"
    elif not picture.armed:
        state, style = "DISARMED: nothing is dropped or ejected", "bold yellow"
    elif picture.observing:
        state, style = "OBSERVING: decides and counts, every packet passes", "bold yellow"
    else:
        state, style = "armed", "green"
    line = Text.assemble((f.clean(picture.edge), "bold"), "  ", (state, style), f"  frame {picture.seq}")
    if picture.step:
        line.append(f"  {f.clean(picture.step)}", "bold")
    out.print(line)
    if picture.pending is not None:
        waiting = picture.pending
        left = f.duration(waiting.left_s) if waiting.left_s else "now"
        what = f"TO BE CONFIRMED: {f.clean(waiting.by)} did `{f.clean(waiting.cli)}`, which reverts in {left}"
        if waiting.trouble:
            what = f"CANNOT REVERT `{f.clean(waiting.cli)}`: {f.clean(waiting.trouble)}"
        out.print(Text(f"{what}; `cdnctl confirm` keeps it, `cdnctl revert` takes it back", "bold yellow"))
    if picture.held_back is not None:
        held = picture.held_back
        out.print(Text(f"HELD BACK: {f.clean(held.text, 400)}; {f.clean(held.remedy)}", "bold yellow"))
    if picture.shield.level != "calm" or picture.shield.wish != "auto":
        since = f", since {f.clock(picture.shield.since_ns)}" if picture.shield.since_ns else ""
        why = f"{picture.shield.why}{since}; " if picture.shield.why else ""
        out.print(
            Text(f"shield {picture.shield.level}: {f.clean(why)}`cdnctl shield` says more", "bold yellow")
        )
    door = picture.door
    if door.wanted == "providers" and (door.trouble or not door.closed):
        state = "OLD LIST of who may talk to" if door.closed else "OPEN TO ANYBODY:"
        out.print(Text(f"{state} SNAT addresses; {f.clean(door.trouble, 400)}", "bold yellow"))
    totals, challenged = picture.totals, picture.shield.challenged_per_s
    answered = f"challenged {f.scaled(challenged)} pps, " if challenged >= 0.5 else ""
    out.print(
        Text(
            f"in {f.scaled(totals.received_pps)} pps {f.mbit(totals.received_bps)} Mbit/s, "
            f"forwarded {f.scaled(totals.forwarded_pps)} pps, dropped {f.scaled(totals.dropped_pps)} pps, "
            f"{answered}passed {f.scaled(totals.passed_pps)} pps, "
            f"{f.scaled(totals.new_flows_per_s)} new flows/s, "
            f"half-open {f.count(totals.half_open)} of {f.count(totals.half_open_limit)}"
        )
    )
    names = ", ".join(f"{each.name} ({each.mode})" for each in picture.interfaces) or "none"
    enforced = f"{picture.blocks_enforced} of {_plural(picture.blocks_wanted, 'block')} enforced"
    lost = f"{f.scaled(picture.sampling.lost_per_s)} samples/s lost"
    guests = f"; SNAT addresses for {door.prefixes:,} prefixes alone" if door.closed else ""
    sampled = f"1 in {picture.sampling.one_in} sampled, {lost}"
    out.print(Text(f.clean(f"interfaces {names}; {enforced}; {sampled}{guests}", 400)))


def _cdns(out: Console, cdns: Iterable[Cdn]) -> None:
    from rich.text import Text

    from cdnctl.console import format as f

    headings = ["CDN", "state", ">weight", ">table", ">flows", ">p50/p95/p99 ms", ">flows/s", ">Mbit/s"]
    wide = out.width >= _WIDE
    table = _table(*headings, *([">1st byte p95", ">loss", ">open", ">full"] if wide else []))
    for cdn in cdns:
        why = cdn.missing or cdn.reason
        state = f"{cdn.state} ({f.clean(why)})" if why else cdn.state
        percentiles = (cdn.handshake_p50_ms, cdn.handshake_p95_ms, cdn.handshake_p99_ms)
        table.add_row(
            Text(f.clean(cdn.name)),
            Text(state, _STATE_STYLES[cdn.state]),
            str(cdn.wanted_weight),
            f.percent(cdn.effective_share),
            f.percent(cdn.share),
            "/".join(map(f.ms, percentiles)) if any(percentiles) else f.NONE,
            f.scaled(cdn.new_flows_per_s),
            f.mbit(cdn.to_cdn_bps + cdn.from_cdn_bps),
            *(_more(cdn) if wide else ()),
        )
    out.print(table)


def _more(cdn: Cdn) -> tuple[str, ...]:
    """First bytes, loss either way, open flows, and how full it is."""
    from cdnctl.console import format as f

    losses = [loss for loss in (cdn.loss_to_cdn, cdn.loss_from_cdn) if loss is not None]
    return (
        f.ms(cdn.first_byte_p95_ms),
        f"{100 * max(losses):.1f}%" if losses else f.NONE,
        f.NONE if cdn.open_flows is None else f.count(cdn.open_flows),
        f.NONE if cdn.capacity_use is None else f"{100 * cdn.capacity_use:.0f}%",
    )


def _customers(out: Console, found: Iterable[Customer]) -> None:
    from cdnctl.console import format as f

    table = _table(
        "customer", ">pps", ">Mbit/s", ">flows/s", ">dropped/s", ">refused/s", "limits", "prefixes"
    )
    for each in found:
        units = (("pps", each.pps_limit), ("Mbit/s", each.mbit_limit), ("flows/s", each.flows_limit))
        limits = ", ".join(f"{value:g} {unit}" for unit, value in units if value)
        whose = " (operator)" if each.limited_by == "operator" else ""
        more = each.prefix_count - _PREFIXES_SHOWN
        prefixes = ", ".join(each.prefixes[:_PREFIXES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        _add(
            table,
            each.name,
            f.scaled(each.pps),
            f.mbit(each.bps),
            f.scaled(each.flows_per_s),
            f.scaled(each.dropped_pps),
            f.scaled(each.refused_per_s),
            (limits or "none") + whose,
            prefixes,
        )
    out.print(table)


def _drops(out: Console, picture: Frame) -> None:
    from cdnctl.console import format as f

    dropped = [each for each in picture.verdicts if each.drop and each.packets_total]
    if not dropped:
        return
    table = _table("dropped", ">pps", ">total", "why")
    for each in sorted(dropped, key=lambda verdict: (-verdict.pps, -verdict.packets_total)):
        _add(table, each.name, f.scaled(each.pps), f.count(each.packets_total), each.explanation)
    out.print(table)


def _talkers(out: Console, picture: Frame) -> None:
    from cdnctl.console import format as f

    if not picture.talkers:
        return
    table = _table("top talker", ">pps", ">Mbit/s", ">dropped", "CDN")
    for each in picture.talkers[:_TALKERS_SHOWN]:
        _add(table, each.prefix, f.scaled(each.pps), f.mbit(each.bps), f.percent(each.drop_share), each.cdn)
    out.print(table)


# --- tables --------------------------------------------------------------------------------------------


def _console() -> Console:
    from rich.console import Console

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def _table(*headings: str) -> Table:
    """A table with these columns; a heading that starts with `>` is of numbers, set to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in headings:
        numbers = heading.startswith(">")
        table.add_column(
            heading.removeprefix(">"),
            justify="right" if numbers else "left",
            no_wrap=numbers,
            min_width=0 if numbers else _TEXT_MIN_WIDTH,
        )
    return table


def _add(table: Table, *cells: str) -> None:
    from rich.text import Text

    from cdnctl.console import format as f

    table.add_row(*(Text(f.clean(cell)) for cell in cells))


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
