"""The table: UDP, in each state of a flow, from both sides."""

from __future__ import annotations

import pytest
from harness import DataPath
from states import (
    UDP_ANSWERED,
    UDP_ASKED,
    UDP_ASKED_AGO,
    UDP_DARK,
    UDP_IDLE,
    UDP_NOTHING,
    UDP_OPEN,
    UDP_SILENT,
)
from table import (
    ESTABLISHED,
    RESCUED,
    SYN_RECV,
    SYN_SENT,
    Given,
    Row,
    answer,
    ask,
    cases,
    drop,
    opens,
    row,
    to_cdn,
    to_client,
)
from trying import check

from cdnctl.datapath.abi import Verdict

MALFORMED, NO_OWNER = Verdict.MALFORMED, Verdict.NO_OWNER
LEFT_THE_DARK = opens()._replace(lost={"reset_dark": 1, "closed": 1}, way="another")

TABLE: dict[Given, list[Row]] = {
    UDP_NOTHING: [
        row("a question", ask(), opens(), SYN_SENT),
        row("nothing but a header", ask(b""), opens(), SYN_SENT),
        row("a question of odd length", ask(b"odd"), opens(), SYN_SENT),
        row("a full datagram", ask(bytes(range(240)) * 6), opens(), SYN_SENT),
        row("from the last port", ask(sport=65535), opens(), SYN_SENT),
        row("with a wrong checksum", ask(chksum=0x1234), opens(), SYN_SENT),
        row("without a checksum", ask(chksum=0), opens(), SYN_SENT, families=[4]),
        row("without a checksum", ask(chksum=0), drop(Verdict.NO_CHECKSUM), families=[6]),
        row("less than its packet carries", ask(len=12, chksum=1), opens(), SYN_SENT),
        row("to a port without service", ask(dport=54), drop(Verdict.NO_SERVICE)),
        row("to a port that TCP has", ask(dport=80), drop(Verdict.NO_SERVICE)),
        row("from port 0", ask(sport=0), drop(MALFORMED)),
        row("to port 0", ask(dport=0), drop(MALFORMED)),
        row("longer than its packet", ask(len=19, chksum=1), drop(MALFORMED)),
        row("shorter than its header", ask(len=7, chksum=1), drop(MALFORMED)),
        row("of no length", ask(len=0, chksum=1), drop(MALFORMED)),
        row("a CDN's answer", answer(), drop(NO_OWNER)),
        row("a CDN's answer from port 0", answer(sport=0), drop(MALFORMED)),
        row("a CDN's answer longer than its packet", answer(len=19, chksum=1), drop(MALFORMED)),
    ],
    UDP_ASKED: [
        row("the question again", ask(), to_cdn()),
        row("another question", ask(b"and this?"), to_cdn()),
        row("the answer", answer(), to_client(handshakes=1, requests=1), SYN_RECV),
        row(
            "the answer without a checksum",
            answer(chksum=0),
            to_client(handshakes=1, requests=1),
            SYN_RECV,
            families=[4],
        ),
        row("the answer without a checksum", answer(chksum=0), drop(Verdict.NO_CHECKSUM), families=[6]),
        row("an answer from another port", answer(sport=54), drop(NO_OWNER)),
        row("an answer to another port", lambda flow: answer(dport=flow.snat[1] ^ 1)(flow), drop(NO_OWNER)),
    ],
    UDP_ASKED_AGO: [
        row("the question again", ask(), to_cdn()),
        row("the answer", answer(), to_client(handshakes=1, requests=1), SYN_RECV),
    ],
    UDP_SILENT: [
        row("the question again", ask(), RESCUED, SYN_SENT),
        row("the answer after all", answer(), to_client(handshakes=1, requests=1), SYN_RECV),
    ],
    UDP_ANSWERED: [
        row("another question", ask(), to_cdn(promoted=1), ESTABLISHED),
        row("another answer", answer(), to_client()),
    ],
    UDP_OPEN: [
        row("a question", ask(), to_cdn()),
        row("a question without a checksum", ask(chksum=0), to_cdn(), families=[4]),
        row("a question without a checksum", ask(chksum=0), drop(Verdict.NO_CHECKSUM), families=[6]),
        row("a question with a wrong checksum", ask(chksum=1), to_cdn()),
        row("a question from another port", ask(sport=29_999), opens(), SYN_SENT),
        row("an answer", answer(), to_client()),
        row("an answer without a checksum", answer(chksum=0), to_client(), families=[4]),
        row("an answer without a checksum", answer(chksum=0), drop(Verdict.NO_CHECKSUM), families=[6]),
        row("an answer with a wrong checksum", answer(chksum=1), to_client()),
        row("nothing but a header", answer(b""), to_client()),
        row("a full datagram", answer(bytes(range(240)) * 6), to_client()),
        row("an answer from another port", answer(sport=54), drop(NO_OWNER)),
        row("shorter than its header", ask(len=7, chksum=1), drop(MALFORMED)),
    ],
    UDP_IDLE: [
        row("a question", ask(), opens(), SYN_SENT),
        row("an answer", answer(), drop(NO_OWNER)),
    ],
    UDP_DARK: [
        row("a question", ask(), LEFT_THE_DARK, SYN_SENT),
        row("an answer after all", answer(), to_client()),
    ],
}


@pytest.mark.parametrize(("given", "row", "family"), cases(TABLE))
def test_udp(bare: DataPath, given: Given, row: Row, family: int) -> None:
    check(bare, given, row, family)
