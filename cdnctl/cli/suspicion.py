"""The model of sources' manners: options, its file, and what `cdnctl model` shows."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from cdnctl.cli import show
from cdnctl.errors import CdnctlError
from cdnctl.model import FEATURE_WORDS, FEATURES, Fit, Frame, Manner

_REMEDY = "name a file that `cdnctl train RECORDING... -o FILE` made"
_LONGEST = 64 << 10
_SHOWN = 10


class Shown(msgspec.Struct, kw_only=True):
    """What `model --json` prints."""

    suspicion: object
    manners: list[Manner]


def add_model(parser: argparse.ArgumentParser) -> None:
    """Options of `model`."""
    parser.add_argument(
        "what",
        nargs="?",
        default="show",
        choices=("show", "off", "observe", "on", "load", "config"),
        help="show (the default) what it does and whom it finds suspicious; observe keeps how sources behave,"
        " and decides nothing; on gives suspicious ones fewer flows than their budgets, which are the"
        " shield's: at level calm there are none; load takes another model; config does as the"
        " configuration says",
    )
    parser.add_argument("file", nargs="?", default="", metavar="FILE", help="what `cdnctl train` made")


def add_train(parser: argparse.ArgumentParser) -> None:
    """Options of `train`."""
    parser.description = (
        "Fit a model of sources' manners to recordings that were made with `cdnctl model observe` or on. Who"
        " attacked is said by marks in them, as the lab's attacks set them: 'attack NAME from PREFIX', and"
        " 'attack NAME is over'. Needs scikit-learn."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="RECORDING", help="what `cdnctl record` made")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the model to make; for `model load`"
    )
    parser.add_argument("--name", default="", metavar="NAME", help="its name; else that of its file")
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="ATTACK", help="learn nothing of it: only judge"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def read_fit(path: str) -> Fit:
    """The model in a file. Raises CdnctlError."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LONGEST + 1)
    except OSError as error:
        raise CdnctlError(f"cannot read {path}: {error.strerror}", _REMEDY) from None
    if len(data) > _LONGEST:
        raise CdnctlError(f"{path} is too large for a model", _REMEDY)
    try:
        fit = msgspec.json.decode(data, type=Fit)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CdnctlError(f"{path} is no model: {error}", _REMEDY) from None
    if unknown := sorted(fit.weights.keys() - set(FEATURES)):
        raise CdnctlError(
            f"{path} weighs what this cdnctl does not know: {_plain(', '.join(unknown))}",
            f"it knows {', '.join(FEATURES)}",
        )
    if not fit.name or not any(fit.row):
        raise CdnctlError(f"{path} has a model without a name, or that weighs nothing", _REMEDY)
    return fit


def lines(frame: Frame) -> list[str]:
    """For people."""
    now = frame.suspicion
    name = _plain(now.fit.name) or "no model is loaded: `cdnctl model load FILE`"
    said = [f"{now.mode}  {name}"]
    if now.fit.name:
        said.append(f"  {'weight':>10}  of")
        said += [
            f"  {weight:>10,}  {feature}: {FEATURE_WORDS[feature]}"
            for feature, weight in zip(FEATURES, now.fit.row, strict=True)
            if weight
        ]
        said.append(f"  {now.fit.bias:>10,}  in any case; above 0 in all is suspicious")
    if now.mode != "off":
        said.append(
            f"  {now.sources:,} sources asked for a flow within half a minute, {now.suspicious:,} suspicious;"
            f" {f'these get {now.times} times fewer flows' if now.mode == 'on' else 'nothing follows'}"
        )
    for manner in sorted(frame.manners, key=lambda manner: -manner.score)[:_SHOWN]:
        values = " ".join(
            f"{name} {value}" for name, value in zip(FEATURES, manner.features, strict=False) if value
        )
        said.append(f"  {_plain(manner.source):<20} {manner.score:>12,}  {values}")
    return said


def show_model(frame: Frame, as_json: bool) -> None:
    """The whole of it."""
    if as_json:
        show.print_json(Shown(suspicion=frame.suspicion, manners=frame.manners))
    else:
        print("\n".join(lines(frame)))


def _plain(text: str) -> str:
    """Names in a file may hold anything; a terminal must not act on it."""
    return "".join(char if char.isprintable() else "?" for char in text)
