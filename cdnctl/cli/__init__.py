"""The commands. Starts without Textual and BCC, so that an answer takes a tenth of a second.

    parser   verbs, options, help        verbs    what each verb does
    panic    the verbs that must work without the agent
    check    looks at a configuration    show     tables and JSON on stdout
    trace    one packet, explained       watch    sampled packets, live
    doctor   looks at the box            place    the network namespace of an edge
    journal  who changed what            records  options of journal and report
    report   everything, in one archive: bundle collects its parts, stand_ins redact them
    unit     the systemd unit
    feed     a list from outside         simulate policies on recorded traffic

Exit status: 0 done, 1 refused or failed, 2 usage, 130 after Ctrl-C. The reason is on stderr, or with
--json on stdout, as `{"error": {"message": ..., "remedy": ...}}` whatever the verb.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence

from cdnctl.errors import CdnctlError, UsageError

_INTERRUPTED = 130
_BROKEN_PIPE = 141
_TAKES_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["demo"]:  # has options of its own
        return _guarded(lambda: _demo(words[1:]), as_json=False)
    as_json = "--json" in words
    if status := _guarded(lambda: _require_text(words), as_json=as_json):
        return status
    return _guarded(lambda: _run(words), as_json=as_json)


def _run(words: Sequence[str]) -> int:
    from cdnctl.cli.parser import parse, require_taken  # here, where a Ctrl-C is heeded: it takes a moment

    options = parse(words)
    require_taken(options)
    status: int = options.run(options)
    return status


def _require_text(words: Sequence[str]) -> int:
    """Everything we send, print or write to the journal is UTF-8; other bytes come in as surrogates."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(word).decode(errors="backslashreplace")
            raise UsageError(
                f"'{shown}' is not UTF-8", "write it in ASCII, or set the terminal to UTF-8"
            ) from None
    return 0


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
        _write_no_more()  # whoever read our output has had enough
        return _BROKEN_PIPE
    except OSError as error:
        if error.errno not in _TAKES_NO_MORE or error.filename is not None:
            raise
        _write_no_more()
        text = f"cannot write the answer: {error.strerror}"
        _complain(CdnctlError(text, "send stdout to where there is room"), as_json=False)
        return CdnctlError.exit_code


def _write_no_more() -> None:
    """Keep the interpreter from trying again, and complaining, at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(error: CdnctlError, as_json: bool) -> None:
    from cdnctl.cli import show

    show.error(error.message, error.remedy, as_json)
