"""Verbs, options and their help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from cdnctl import __version__
from cdnctl.cli import cast, keys, replay, taking_back, trace, verbs
from cdnctl.cli.planner import add_planner
from cdnctl.cli.records import add_journal, add_report
from cdnctl.cli.suspicion import add_model, add_train
from cdnctl.errors import UsageError
from cdnctl.model import LEVELS, BlockPrefix

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LIFETIME = re.compile(r"(?:\d+[smhdw])+")
_LONGEST_S = 10 * 365 * 86400
_CONFIRM_MAX_S = 86400.0
_WEIGHT_MAX = 1000
_FASTEST = 1e9
_FRAME_DIGITS = 18
"""More than frames, or packets shown, ever will be, and within what 64 bits hold."""
_TOP_LEVEL = ("edge", "config", "netns", "read_only", "theme")
"""What may stand before a verb."""

_EXAMPLES = """\
examples:
  cdnctl                                    the console; starts an agent when none runs
  cdnctl init                               a few questions, and a configuration
  cdnctl check                              is the configuration right, and what does it cost?
  cdnctl status                             one look, as tables; --json for scripts
  cdnctl block 198.51.100.0/24 --for 2h --reason "SYN flood"
  cdnctl weight aurora=60 borealis=40       --dry-run shows the shares it would lead to
  cdnctl drain aurora                       no new flows to it; live ones stay
  cdnctl drain aurora --confirm 5m          the same, but it reverts unless `cdnctl confirm` comes
  cdnctl undo                               take the last change back; `cdnctl journal` has them all
  cdnctl diff                               does the kernel hold what it should? `cdnctl repair`
  cdnctl reload                             the configuration has changed: no flow is reset for it
  cdnctl limit acme --mbit 400              a customer's share; `cdnctl customers` lists them
  cdnctl shield                             under attack? the level, why, and what it costs
  cdnctl autoban --dry-run                  whom would blocks that set themselves be for?
  cdnctl model                              whose manner is suspicious? `cdnctl train` makes a model
  cdnctl planner on                         let it move weights by itself; `planner why aurora`
  cdnctl mode observe                       decide and count, but let every packet pass
  cdnctl trace 198.51.100.7 203.0.113.80:443    where would it go, and why?
  cdnctl trace --live verdict dropped       what is dropped now, a line a packet
  cdnctl journal --since 2h                 who changed what, and why; -f follows
  cdnctl report -o incident.tar.gz          all that is known, for those who look into it later
  cdnctl disarm                             panic: stop dropping and ejecting, go on forwarding
  cdnctl record incident.rec --for 10m      the agent records; `cdnctl replay incident.rec` plays it
  cdnctl cast incident --speed 4            a recording for web pages; --svg for a picture
  cdnctl feed check https://example.net/drop.txt    what would this list block?
  cdnctl simulate incident.cdnrec -c FILE     what would other policies have done?
  cdnctl keys                               the console's keys, with your own
  cdnctl demo                               a whole edge with traffic and faults, on this machine

`cdnctl VERB --help` has the options of each. Settings: CDNCTL_EDGE, CDNCTL_CONFIG.
"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line as options; `options.run(options)` does it. Exits with 2 on wrong usage, or raises
    UsageError when a program asks, which reads JSON."""
    return _parser(_ForPrograms if "--json" in argv else _ForPeople).parse_args(argv)


def grammar() -> argparse.ArgumentParser:
    """The parser itself, which raises UsageError for what is wrong."""
    return _parser(_ForPrograms)


class _ForPeople(argparse.ArgumentParser):
    """Says what a verb takes to who gave it too much, and not what all verbs are."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """What comes after a verb is the verb's, and is all known or wrong."""
        found, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return found, left


class _ForPrograms(_ForPeople):
    """Leaves it to others to say what is wrong."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"`{self.prog} --help` lists what it takes")


def require_taken(options: argparse.Namespace) -> None:
    """Raise UsageError for an option before a verb that does not take it: ignored, it would mislead."""
    for name in _TOP_LEVEL:
        if getattr(options, name) and name not in options.takes:
            option = "--" + name.replace("_", "-")
            raise UsageError(
                f"`{options.verb}` does not take {option}",
                f"`cdnctl {options.verb} --help` lists what it takes",
            )


def frame_number(text: str) -> int:
    """The number of a frame, as `status` shows it."""
    if text.isascii() and text.isdigit() and len(text) <= _FRAME_DIGITS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected the number of a frame, as `cdnctl status` shows it")


def packet_count(text: str) -> int:
    """How many packets to show."""
    if text.isascii() and text.isdecimal() and len(text) <= _FRAME_DIGITS and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a number of packets, from 1")


def lifetime(text: str) -> float | None:
    """Seconds of `90s`, `4h`, `1d12h`; None for `forever`."""
    if text == "forever":
        return None
    if _LIFETIME.fullmatch(text):
        seconds = sum(int(n[:12]) * _UNITS[unit] for n, unit in re.findall(r"(\d+)([smhdw])", text))
        if 0 < seconds <= _LONGEST_S:
            return float(seconds)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a time as in 90s, 30m, 4h, 1d12h, or forever")


def confirmation(text: str) -> float:
    """Seconds of `90`, `90s` or `5m`; 0 for no confirmation."""
    seconds = float(text) if text.isascii() and text.isdecimal() and len(text) < 6 else lifetime(text)
    if seconds is not None and seconds <= _CONFIRM_MAX_S:
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r}: expected a time as in 90s or 5m, of a day at most, or 0")


def count(text: str) -> int:
    """A number of the journal or of a state."""
    if text.isascii() and text.isdecimal() and len(text) <= _FRAME_DIGITS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a number")


def weight(text: str) -> tuple[str, int]:
    """`aurora=60` as name and weight."""
    name, _, number = text.partition("=")
    if name and number.isascii() and number.isdigit() and len(number) < 6 and int(number) <= _WEIGHT_MAX:
        return name, int(number)
    raise argparse.ArgumentTypeError(
        f"{text!r}: expected NAME=WEIGHT as in aurora=60, from 0 to {_WEIGHT_MAX}"
    )


def rate(text: str) -> float:
    """A number above 0; 0 for `none`."""
    if text == "none":
        return 0.0
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if 0 < number <= _FASTEST:
        return number
    raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0, or none for no limit")


def _parser(kind: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = kind(
        prog="cdnctl",
        description="Spread an edge box's traffic over several CDNs, and watch and steer it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cdnctl {__version__}")
    parser.set_defaults(run=verbs.console, edge=None, config=None, netns=None, json=False)
    parser.set_defaults(verb="", takes=_TOP_LEVEL)
    _add_edge(parser)
    _add_start(parser)
    parser.add_argument("--read-only", action="store_true", help="the console changes nothing")
    parser.add_argument("--theme", metavar="NAME", help="the console's colours, from a file in themes/")
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB")

    def verb(
        name: str,
        text: str,
        run: Callable[[argparse.Namespace], int],
        *,
        answers: bool = True,
        starts: bool = False,
    ) -> argparse.ArgumentParser:
        takes = (("edge",) if answers else ()) + (("config", "netns") if starts else ())
        made = subparsers.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        made.set_defaults(run=run, verb=name, takes=takes)
        if answers:
            _add_edge(made)
            made.add_argument("--json", action="store_true", help="answer in JSON")
        if starts:
            _add_start(made)
        return made

    def change(
        name: str,
        text: str,
        run: Callable[[argparse.Namespace], int],
        *,
        cuts: bool = False,
        starts: bool = False,
        confirmed: bool = True,
    ) -> argparse.ArgumentParser:
        made = verb(name, text, run, starts=starts)
        _add_reason(made)
        _add_dry_run(made)
        if confirmed:
            made.add_argument(
                "--confirm",
                type=confirmation,
                metavar="TIME",
                help="revert it after 90s, 5m, ... unless `cdnctl confirm` comes before; 0: let it stay",
            )
        what = "do not ask before cutting flows" if cuts else "let it stay unconfirmed, risky or not"
        made.add_argument("-y", "--yes", action="store_true", help=what)
        made.set_defaults(**({} if confirmed else {"confirm": 0.0}))
        return made

    agent = verb(
        "agent", "load, attach and serve an edge, in the foreground", verbs.agent, answers=False, starts=True
    )
    agent.add_argument("--detach-on-exit", action="store_true", help="take the data path off at the end")
    agent.add_argument(
        "--log", choices=("text", "json"), default="text", help="for people, or an object a line for programs"
    )
    agent.add_argument("--no-cache", action="store_true", help="compile, also what was compiled before")
    reload = change("reload", "put the changed configuration into force; no flow is reset", verbs.reload)
    reload.add_argument("--program", action="store_true", help="load and attach the program anew as well")

    status = verb("status", "show the edge as it is now", verbs.status)
    status.add_argument("--frame", type=frame_number, metavar="N", help="that frame instead of the newest")
    status.add_argument("-w", "--watch", action="store_true", help="again at each new frame, until Ctrl-C")

    block = change("block", "drop everything from an address or prefix", verbs.block)
    block.add_argument(
        "prefix", nargs="?", metavar="PREFIX", help="as 198.51.100.7, 198.51.100.0/24 or 2001:db8::/48"
    )
    block.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="instead: all of a file with a prefix a line, as one change; # and ; begin comments",
    )
    block.add_argument(
        "--for",
        dest="lifetime_s",
        type=lifetime,
        default=_default_lifetime(),
        metavar="TIME",
        help="30m, 4h (the default), 1d12h, or forever",
    )
    unblock = change("unblock", "lift a block that was set by hand, or that set itself", verbs.unblock)
    unblock.add_argument("prefix", metavar="PREFIX")
    unblock.add_argument(
        "--source",
        choices=("manual", "auto"),
        default="",
        help="which, where there are both (the manual one)",
    )
    verb("blocks", "list what is blocked", verbs.blocks)

    weights = change("weight", "set how much CDNs should get, relative to each other", verbs.weight)
    weights.add_argument("weights", type=weight, nargs="+", metavar="CDN=WEIGHT", help="as aurora=60")
    change("drain", "no new flows to a CDN; live ones stay", verbs.drain).add_argument("cdn", metavar="CDN")
    change("undrain", "new flows to a CDN again", verbs.undrain).add_argument("cdn", metavar="CDN")

    verb("customers", "list customers, their limits, and prefixes that are allowed", verbs.customers)
    limit = change("limit", "set how much a customer may take", verbs.limit)
    limit.add_argument("customer", metavar="CUSTOMER")
    limit.add_argument("--pps", type=rate, metavar="N", help="packets a second, or none")
    limit.add_argument("--mbit", type=rate, metavar="N", help="Mbit/s, or none")
    limit.add_argument("--flows-per-s", type=rate, metavar="N", help="new flows a second, or none")
    limit.add_argument("--clear", action="store_true", help="what the configuration says again")
    change("allow", "neither block nor limit an address or prefix", verbs.allow).add_argument(
        "prefix", metavar="PREFIX", help="as 198.51.100.7 or 2001:db8::/48"
    )
    change("disallow", "take back an allow", verbs.disallow).add_argument("prefix", metavar="PREFIX")

    add_planner(change)
    mode = change("mode", "act on what the edge decides, or only observe", verbs.mode, cuts=True)
    mode.add_argument(
        "mode", choices=("active", "observe"), help="observe lets every packet pass: cuts translated flows"
    )
    shield = change(
        "shield", "how hard it is for new flows under attack; without a level, what is so now", verbs.shield
    )
    shield.add_argument(
        "level",
        nargs="?",
        choices=("auto", *LEVELS),
        help="auto (the default) follows the load; calm sheds nothing; busy and shedding give sources and"
        " prefixes budgets; siege has who opens a TCP connection prove first where he is",
    )
    autoban = change(
        "autoban",
        "blocks that set themselves; without a mode, which did, and whom they would be for",
        verbs.autoban,
    )
    autoban.add_argument(
        "mode",
        nargs="?",
        choices=("config", "off", "dry-run", "on"),
        help="on bans who is over a threshold of [autoban] while that lasts; dry-run only tells whom;"
        " off does neither, and lifts what was banned; config does what the configuration says",
    )
    add_model(
        change(
            "model",
            "look at how sources behave: have it off, observed or on, load a model; see it",
            verbs.model,
        )
    )
    change("attach", "attach the data path; starts an agent when none runs", verbs.attach, starts=True)
    detach = change("detach", "take the data path off: cuts every translated flow", verbs.detach, cuts=True)
    detach.add_argument("--stop", action="store_true", help="end the agent as well")
    change("disarm", "panic: nothing is dropped or ejected, translation goes on", verbs.disarm)
    change("arm", "back from disarm or bypass", verbs.arm)
    change("bypass", "pass every packet untouched: cuts every translated flow", verbs.bypass, cuts=True)

    _add_init(
        verb("init", "ask a few questions, probe, and write a configuration", verbs.init, answers=False)
    )
    _add_taking_back(verb, change)

    verb("check", "look at a configuration: mistakes, memory, ports, interfaces", verbs.check, starts=True)
    verb("doctor", "look at this box for what keeps packets from going their way", verbs.doctor, starts=True)
    _add_trace(verb("trace", "say what would become of a packet, and why", verbs.trace, starts=True))
    verb("metrics", "print what Prometheus is told, once", verbs.metrics)
    add_journal(verb("journal", "list who changed what, when and why", verbs.journal))
    add_report(
        verb("report", "collect all that is known of an edge into one file", verbs.report, starts=True)
    )
    feed = verb("feed", "say what a list from outside would block, and what not", verbs.feed, starts=True)
    feed.add_argument("action", choices=("check",), help="fetch, parse and screen it; nothing is applied")
    feed.add_argument("source", metavar="FILE|URL", help="a block list or a provider's ranges, any format")
    simulate = verb("simulate", "compare policies on recorded traffic", verbs.simulate)
    simulate.set_defaults(takes=("edge", "config"))
    _add_config(simulate)
    simulate.add_argument(
        "file", type=Path, metavar="FILE", help="a recording, or a shipped one's name; or a frame a line"
    )
    add_train(verb("train", "fit a model of sources' manners to recordings", verbs.train, answers=False))
    verb("who", "list who is connected to the agent", verbs.who)
    record = verb("record", "have the agent record every frame to a file", verbs.record)
    record.set_defaults(confirm=0.0)
    _add_reason(record)
    _add_dry_run(record)
    record.add_argument(
        "file",
        nargs="?",
        default="",
        metavar="FILE",
        help="a name, kept among the edge's recordings; root may give a path. Without, one is made",
    )
    record.add_argument(
        "--for", dest="for_s", type=lifetime, metavar="TIME", help="as in 10m; else until stopped"
    )
    record.add_argument("--redact", action="store_true", help="replace addresses and users' names")
    record.add_argument("--stop", action="store_true", help="end the recording that is being made")
    mark = verb("mark", "set a mark: a chapter of what is recorded", verbs.mark)
    mark.set_defaults(confirm=0.0, reason="")
    _add_dry_run(mark)
    mark.add_argument("text", metavar="TEXT")
    replay.add_arguments(
        verb("replay", "show a recording in the console, or what is in it", replay.replay, answers=False)
    )
    redact = verb("redact", "write a recording again without addresses", replay.redact, answers=False)
    redact.add_argument("file", type=Path, metavar="IN", help="a recording")
    redact.add_argument("out", type=Path, metavar="OUT", help="the file to make")
    redact.add_argument("--json", action="store_true", help="answer in JSON")
    made = verb("cast", "make an asciicast, or a picture, of a recording", cast.run, answers=False)
    made.set_defaults(takes=("theme",))
    cast.add_options(made)

    keys.add_options(
        verb("keys", "list the console's keys, and check the file that changes them", keys.run, answers=False)
    )
    verb(
        "unit",
        "print the systemd unit that starts agents, with this installation's paths",
        verbs.unit,
        answers=False,
    )
    verb(
        "demo",
        "build an edge with traffic and faults on this machine, and play an incident",
        _demo_late,
        answers=False,
    )
    return parser


def _add_edge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--edge", default=argparse.SUPPRESS, metavar="NAME", help="which edge, when several run here"
    )


def _add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; goes into the journal")


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would happen")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="configuration file"
    )


def _add_start(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    parser.add_argument(
        "--netns", default=argparse.SUPPRESS, metavar="NAME", help="in this named network namespace"
    )


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(takes=("config",))
    parser.add_argument(
        "-c", "--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="the file to write"
    )
    parser.add_argument("--name", metavar="NAME", help="of the edge; the host's if not said")
    for option, metavar, text in (
        ("--interface", "IF", "packets come and go by it; else those with a default route"),
        ("--snat", "ADDR", "an address of this box that CDNs see; else the interfaces' own"),
        ("--management", "PREFIX", "the box is always reached from there; else who is logged in by SSH"),
        ("--service", "NAME=VIP:PORT", "as www=203.0.113.80:443, or .../tcp+udp"),
        (
            "--cdn",
            "NAME=HOST:PORT",
            "as aurora=198.51.100.10:443, more endpoints by commas, @60 for a weight",
        ),
    ):
        parser.add_argument(option, action="append", metavar=metavar, help=f"{text}; may be said again")
    parser.add_argument(
        "-y", "--yes", action="store_true", help="ask nothing: what is not said is the default"
    )
    parser.add_argument("--force", action="store_true", help="replace the file that is there")
    parser.add_argument("--dry-run", action="store_true", help="print the file instead of writing it")


def _add_taking_back(
    verb: Callable[..., argparse.ArgumentParser], change: Callable[..., argparse.ArgumentParser]
) -> None:
    change("confirm", "keep the change that waits for it", taking_back.confirm, confirmed=False)
    change("revert", "take that change back at once", taking_back.revert, confirmed=False)
    undo = change("undo", "take back the last change, or another one", taking_back.undo)
    undo.add_argument("seq", nargs="?", type=count, metavar="SEQ", help="its number in the journal")
    undo.add_argument(
        "--to",
        type=count,
        metavar="REVISION",
        help="back to a state that `cdnctl state` lists, all at once; blocks stay as they are",
    )
    state = verb("state", "list the states that are kept, or show one", taking_back.state)
    state.add_argument("what", nargs="?", choices=("list", "show"), default="list")
    state.add_argument(
        "revision", nargs="?", type=count, metavar="REVISION", help="the one in force if not said"
    )
    verb(
        "diff",
        "compare what the kernel holds with what is wanted; ends with 1 if it differs",
        taking_back.diff,
    )
    change("repair", "have the kernel hold what is wanted", taking_back.repair, confirmed=False)


def _add_trace(parser: argparse.ArgumentParser) -> None:
    parser.usage = "cdnctl trace [options] SRC[:PORT] DST:PORT\n       cdnctl trace --live [options] [FILTER]"
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="two ends, as 198.51.100.7 203.0.113.80:443 or [2001:db8::7]:40000 [2001:db8:1::80]:443; with"
        " --live a filter, as src 198.51.100.0/24 and verdict dropped",
    )
    parser.add_argument("--proto", choices=("tcp", "udp", "icmp"), default="tcp", help="tcp if not said")
    parser.add_argument(
        "--flags",
        type=trace.flags,
        metavar="FLAGS",
        help="of TCP, as syn or fin,ack; else what would come next",
    )
    parser.add_argument("--iface", metavar="NAME", help="comes in by this interface of the edge")
    parser.add_argument("--live", action="store_true", help="show sampled real packets with their verdicts")
    parser.add_argument("--count", type=packet_count, metavar="N", help="with --live: so many, then end")


def _default_lifetime() -> float | None:
    return BlockPrefix(prefix="").lifetime_s


def _demo_late(_options: argparse.Namespace) -> int:
    raise UsageError("`demo` must be the first word", "its own options come after it: cdnctl demo --help")
