"""The commands. Starts without Textual and BCC, so that an answer takes a tenth of a second.

    parser   verbs, options, help        verbs    what each verb does
    panic    the verbs that must work without the agent
    check    looks at a configuration    show     tables and JSON on stdout

Exit status: 0 done, 1 refused or failed (the reason on stderr, or on stdout with --json), 2 usage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from cdnctl.cli.parser import parse
from cdnctl.errors import CdnctlError

_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["demo"]:  # has options of its own
        return _guarded(lambda: _demo(words[1:]), as_json=False)
    options = parse(words)
    return _guarded(lambda: options.run(options), as_json=getattr(options, "json", False))


def _demo(words: list[str]) -> int:
    from cdnctl.lab.demo import main as demo

    return demo(words)


def _guarded(run: Callable[[], int], *, as_json: bool) -> int:
    """Run it; what is foreseeable becomes a message and a status, never a traceback."""
    try:
        status = run()
        sys.stdout.flush()
        return status
    except CdnctlError as error:
        _complain(error, as_json)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; keep the interpreter from complaining at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE


def _complain(error: CdnctlError, as_json: bool) -> None:
    if as_json:
        from cdnctl.cli.show import print_json

        print_json({"ok": False, "text": error.message, "remedy": error.remedy})
        return
    print(f"cdnctl: {error.message}", file=sys.stderr)
    if error.remedy:
        print(f"  {error.remedy}", file=sys.stderr)
