"""The table: TCP, in each state of a connection, from both sides."""

from __future__ import annotations

import pytest
from harness import DataPath
from states import (
    ANSWERED,
    ASKED,
    BEGUN,
    BEGUN_AGAIN,
    BEGUN_OTHERWISE,
    CDN_CLOSED,
    CDN_ISN,
    CLIENT_CLOSED,
    CLOSED,
    DARK,
    EVICTED,
    FORMER_OWNER,
    GIVEN_UP,
    ISN,
    MINE,
    NEW_OWNER,
    NOTHING,
    OPEN,
    REFUSED,
    REFUSED_BY_ONE,
    RESCUED_FROM,
    RESCUED_TO,
    RESET,
    RESET_AGO,
    RESET_BY_CDN,
    SILENT,
    THEIRS,
)
from table import (
    CLOSING,
    ESTABLISHED,
    RESCUED,
    SYN_RECV,
    SYN_SENT,
    Given,
    Row,
    cases,
    down,
    drop,
    opens,
    reset_cdn,
    reset_client,
    row,
    to_cdn,
    to_client,
    up,
)
from trying import check

from cdnctl.datapath.abi import Verdict

MALFORMED, UNKNOWN_FLOW, BAD_ACK = Verdict.MALFORMED, Verdict.UNKNOWN_FLOW, Verdict.BAD_ACK
NO_OWNER, STALE = Verdict.NO_OWNER, Verdict.STALE_REPLY
OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (7, 0)), ("NOP", None), ("WScale", 7)]
ODDLY = [("WScale", 7), ("MSS", 1460), ("NOP", None)]
IMPOSSIBLE = ("", "F", "P", "U", "FPU", "EC", "SF", "SR", "SFA", "SRA", "SFRPAUEC")
FULL = bytes(range(240)) * 6
REQUEST, REPLY = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"

CUT_OFF = reset_client("R", seq=THEIRS, segments_to=1, resent_to=1, reset_dark=1, closed=1)

TABLE: dict[Given, list[Row]] = {
    NOTHING: [
        row("a SYN", up("S"), opens(), SYN_SENT),
        row("a SYN with the usual options", up("S", options=OPTIONS), opens(), SYN_SENT),
        row("a SYN with options that no word begins with", up("S", options=ODDLY), opens(), SYN_SENT),
        row("a SYN that asks for ECN", up("SEC"), opens(), SYN_SENT),
        row("a SYN with data (Fast Open)", up("S", REQUEST, options=[("TFO", (1, 2))]), opens(), SYN_SENT),
        row("a SYN with PSH, URG and a window of 0", up("SPU", window=0, urgptr=9), opens(), SYN_SENT),
        row("a SYN with the last number", up("S", seq=0xFFFF_FFFF), opens(), SYN_SENT),
        row("a SYN with the least of numbers", up("S", seq=0), opens(), SYN_SENT),
        row("a SYN from the last port", up("S", sport=65535), opens(), SYN_SENT),
        row("a SYN with a wrong checksum", up("S", chksum=0x1234), opens(), SYN_SENT),
        row("a SYN to a port without service", up("S", dport=81), drop(Verdict.NO_SERVICE)),
        row("a SYN to a port that UDP has", up("S", dport=53), drop(Verdict.NO_SERVICE)),
        row("a SYN from port 0", up("S", sport=0), drop(MALFORMED)),
        row("a SYN to port 0", up("S", dport=0), drop(MALFORMED)),
        row("an ACK", up("A"), reset_client("R", seq=THEIRS)),
        row("an ACK of the last number", up("A", ack=0xFFFF_FFFF), reset_client("R", seq=0xFFFF_FFFF)),
        row("data", up("PA", REQUEST), reset_client("R", seq=THEIRS)),
        row("data to a port without service", up("PA", b"x", dport=81), reset_client("R", seq=THEIRS)),
        row("a FIN", up("FA"), reset_client("R", seq=THEIRS)),
        row("a reset", up("R"), drop(UNKNOWN_FLOW)),
        row("a reset with ACK", up("RA"), drop(UNKNOWN_FLOW)),
        row("a client's SYN-ACK", up("SA"), drop(UNKNOWN_FLOW)),
        *(row(f"impossible flags: {flags or 'none'}", up(flags), drop(MALFORMED)) for flags in IMPOSSIBLE),
        row("a header of 4 words", up("S", dataofs=4), drop(MALFORMED)),
        row("a header of none", up("S", dataofs=0), drop(MALFORMED)),
        row("a header beyond the packet", up("S", dataofs=6), drop(MALFORMED)),
        row("options beyond the packet", up("S", bytes(12), dataofs=15), drop(MALFORMED)),
        row("a CDN's SYN-ACK", down("SA"), drop(NO_OWNER)),
        row("a CDN's data", down("PA", REPLY), drop(NO_OWNER)),
        row("a CDN's reset", down("R"), drop(NO_OWNER)),
        row("a CDN's SYN", down("S"), drop(NO_OWNER)),
        row("a CDN's, from port 0", down("A", sport=0), drop(MALFORMED)),
        row("a CDN's, with impossible flags", down("SF"), drop(MALFORMED)),
    ],
    BEGUN: [
        row("the SYN again", up("S"), to_cdn()),
        row("a SYN with another number", up("S", seq=9), to_cdn()),
        row("an ACK of what was not sent", up("A"), drop(BAD_ACK)),
        row("data before the answer", up("PA", REQUEST), drop(BAD_ACK)),
        row("a FIN before the answer", up("FA"), drop(BAD_ACK)),
        row("a client that gives up", up("R"), to_cdn(), CLOSING),
        row("a reset of somebody who guesses", up("R", seq=77_000), to_cdn()),
        row("a client's SYN-ACK", up("SA"), drop(UNKNOWN_FLOW)),
        row("the SYN-ACK", down("SA"), to_client(handshakes=1), SYN_RECV),
        row("the SYN-ACK with options", down("SA", options=OPTIONS), to_client(handshakes=1), SYN_RECV),
        row("the SYN-ACK of its data, too", down("SA", ack=MINE + 18), to_client(handshakes=1), SYN_RECV),
        row("a SYN-ACK of another SYN", down("SA", ack=ISN), reset_cdn("R", seq=ISN)),
        row("an ACK, of an older connection", down("A"), reset_cdn("R", seq=MINE)),
        row("data, of an older connection", down("PA", REPLY), reset_cdn("R", seq=MINE)),
        row("a FIN, of an older connection", down("FA"), reset_cdn("R", seq=MINE)),
        row("a CDN's SYN", down("S"), reset_cdn("RA", ack=CDN_ISN + 1)),
        row("the refusal", down("RA", seq=0), to_client(), CLOSING),
        row("a refusal of another SYN", down("RA", seq=0, ack=5), drop(STALE)),
        row("a reset of nothing in particular", down("R"), drop(STALE)),
        row("a SYN-ACK from another port", down("SA", sport=81), drop(NO_OWNER)),
        row(
            "a SYN-ACK to the next port",
            lambda flow: down("SA", dport=flow.snat[1] ^ 1)(flow),
            drop(NO_OWNER),
        ),
        row("a SYN-ACK with a header too short", down("SA", dataofs=4), drop(MALFORMED)),
    ],
    BEGUN_AGAIN: [
        row("the SYN for a third time", up("S"), to_cdn()),
        row("the SYN-ACK, which is not timed", down("SA"), to_client(), SYN_RECV),
    ],
    BEGUN_OTHERWISE: [
        row("the second SYN again", up("S"), to_cdn()),
        row("the SYN-ACK of the first", down("SA", ack=MINE), reset_cdn("R", seq=MINE)),
        row("the SYN-ACK of the second", down("SA"), to_client(), SYN_RECV),
    ],
    SILENT: [
        row("the SYN again", up("S"), RESCUED, SYN_SENT),
        row("a SYN with another number", up("S", seq=9), to_cdn()),
        row("the SYN-ACK after all", down("SA"), to_client(handshakes=1), SYN_RECV),
        row("the refusal", down("RA", seq=0), to_client(), CLOSING),
    ],
    GIVEN_UP: [
        row("the SYN again, of which there is no other CDN", up("S"), to_cdn()),
        row("a SYN with another number", up("S", seq=9), opens(), SYN_SENT),
        row("the SYN-ACK after all", down("SA"), to_client(handshakes=1), SYN_RECV),
    ],
    ANSWERED: [
        row("the SYN again: the answer was lost", up("S"), to_cdn()),
        row("a SYN with another number", up("S", seq=9), to_cdn(), SYN_SENT),
        row("the ACK", up("A"), to_cdn(promoted=1), ESTABLISHED),
        row("the ACK with data", up("PA", REQUEST), to_cdn(promoted=1, segments_to=1), ESTABLISHED),
        row("the ACK with a FIN", up("FA"), to_cdn(promoted=1), ESTABLISHED),
        row("an ACK of something else", up("A", ack=THEIRS + 1), drop(BAD_ACK)),
        row("an ACK of nothing yet", up("A", ack=CDN_ISN), drop(BAD_ACK)),
        row("data that acknowledges something else", up("PA", b"x", ack=THEIRS ^ 1 << 31), drop(BAD_ACK)),
        row("a client that gives up", up("R"), to_cdn(), CLOSING),
        row("a reset of somebody who guesses", up("R", seq=77_000), to_cdn()),
        row("the SYN-ACK again", down("SA"), to_client()),
        row("a SYN-ACK of another SYN", down("SA", ack=5), reset_cdn("R", seq=5)),
        row("data before the ACK was seen", down("PA", REPLY), to_client()),
        row("the same, of data in the SYN", down("PA", REPLY, ack=MINE + 18), to_client()),
        row("a refusal after all", down("RA"), to_client(), CLOSING),
        row("a reset of nothing in particular", down("R"), drop(STALE)),
    ],
    OPEN: [
        row("an ACK", up("A"), to_cdn()),
        row("an ACK with timestamps", up("A", options=[("Timestamp", (123456, 654321))]), to_cdn()),
        row("a selective ACK", up("A", options=[("SAck", (1, 2, 3, 4))]), to_cdn()),
        row("an ACK with a wrong checksum", up("A", chksum=0x4321), to_cdn()),
        row("data", up("PA", REQUEST), to_cdn(segments_to=1)),
        row("data of odd length", up("PA", b"odd"), to_cdn(segments_to=1)),
        row("urgent data", up("PAU", REQUEST, urgptr=5), to_cdn(segments_to=1)),
        row("a full segment", up("A", FULL), to_cdn(segments_to=1)),
        row("a keep-alive", up("A", b"\0", seq=ISN), to_cdn(segments_to=1, resent_to=1)),
        row("a FIN", up("FA"), to_cdn()),
        row("a FIN with data", up("FPA", REQUEST), to_cdn()),
        row("a reset", up("R", ack=0), to_cdn(closed=1), CLOSING),
        row("a reset with ACK", up("RA"), to_cdn(closed=1), CLOSING),
        row("a SYN, the CDN's to judge", up("S", seq=424242), to_cdn()),
        row("a client's SYN-ACK", up("SA"), drop(UNKNOWN_FLOW)),
        row("impossible flags", up("FPU"), drop(MALFORMED)),
        row("a header beyond the packet", up("A", dataofs=15), drop(MALFORMED)),
        row("from port 0", up("A", sport=0), drop(MALFORMED)),
        row("from another port", lambda flow: up("A", sport=1)(flow), reset_client("R", seq=THEIRS)),
        row("a CDN's ACK", down("A"), to_client()),
        row("a CDN's data", down("PA", REPLY), to_client(segments_from=1)),
        row("a CDN's full segment", down("A", FULL), to_client(segments_from=1)),
        row(
            "a CDN's data with timestamps", down("A", b"!", options=OPTIONS[2:4]), to_client(segments_from=1)
        ),
        row("a CDN's with a wrong checksum", down("A", b"?", chksum=1), to_client(segments_from=1)),
        row("a CDN's FIN", down("FA"), to_client()),
        row("a CDN's FIN with data", down("FPA", REPLY), to_client(segments_from=1)),
        row("a CDN's reset", down("R"), to_client(closed=1), CLOSING),
        row("a CDN's reset with ACK", down("RA"), to_client(closed=1), CLOSING),
        row("the SYN-ACK again: the ACK was lost", down("SA"), to_client()),
        row("a CDN's with impossible flags", down("SFRPAU"), drop(MALFORMED)),
        row("a CDN's from another port", down("A", sport=443), drop(NO_OWNER)),
        row("a CDN's to another port", lambda flow: down("A", dport=flow.snat[1] ^ 1)(flow), drop(NO_OWNER)),
    ],
    ASKED: [
        row("the request again", up("PA", b"GET /"), to_cdn(segments_to=1, resent_to=1)),
        row("more of it", up("PA", b" HTTP/1.1", seq=MINE + 5), to_cdn(segments_to=1)),
        row(
            "the reply's first byte", down("PA", REPLY, ack=MINE + 5), to_client(segments_from=1, requests=1)
        ),
        row("an ACK of it", down("A", ack=MINE + 5), to_client()),
    ],
    DARK: [
        row("the request again", up("PA", b"GET /"), CUT_OFF, CLOSING),
        row("more of it", up("PA", b" HTTP/1.1", seq=MINE + 5), to_cdn(segments_to=1)),
        row("the reply after all", down("PA", REPLY), to_client(segments_from=1, requests=1)),
    ],
    CLIENT_CLOSED: [
        row("the FIN again", up("FA"), to_cdn()),
        row("an ACK of the rest", up("A", seq=MINE + 1), to_cdn()),
        row("the rest", down("PA", REPLY), to_client(segments_from=1)),
        row("the CDN's FIN", down("FA", ack=MINE + 1), to_client(closed=1), CLOSING),
        row("a reset", up("R"), to_cdn(closed=1), CLOSING),
        row("a SYN", up("S", seq=9), to_cdn()),
    ],
    CDN_CLOSED: [
        row("the FIN again", down("FA"), to_client()),
        row("the rest", up("PA", REQUEST, ack=THEIRS + 1), to_cdn(segments_to=1)),
        row("the client's FIN", up("FA", ack=THEIRS + 1), to_cdn(closed=1), CLOSING),
        row("a reset", down("R"), to_client(closed=1), CLOSING),
    ],
    CLOSED: [
        row("the last ACK again", up("A", seq=MINE + 1, ack=THEIRS + 1), to_cdn()),
        row("the client's FIN again", up("FA"), to_cdn()),
        row("the CDN's FIN again", down("FA"), to_client()),
        row("the CDN's last ACK", down("A", ack=MINE + 1), to_client()),
        row("the CDN's reset", down("R"), to_client()),
        row("a SYN: the port is used again", up("S", seq=5_000_000), opens(), SYN_SENT),
        row("the very same SYN", up("S"), opens(), SYN_SENT),
    ],
    RESET: [
        row("the reset again", up("R"), to_cdn()),
        row("what the CDN had sent before", down("PA", REPLY), to_client()),
        row("the CDN's reset", down("RA"), to_client()),
        row("a SYN: the port is used again", up("S", seq=5_000_000), opens(), SYN_SENT),
    ],
    RESET_AGO: [
        row("the CDN goes on: the reset was none", down("PA", REPLY), to_client(promoted=1), ESTABLISHED),
        row("the client goes on: it was not its own", up("A"), to_cdn(promoted=1), ESTABLISHED),
        row("the CDN resets it, too", down("R"), to_client()),
    ],
    RESET_BY_CDN: [
        row("what the client had sent before", up("PA", REQUEST), to_cdn(segments_to=1)),
        row("the client's reset", up("R"), to_cdn()),
        row("the reset again", down("R"), to_client()),
        row("a SYN: the port is used again", up("S", seq=5_000_000), opens(), SYN_SENT),
    ],
    REFUSED: [
        row("the refusal again", down("RA", seq=0), to_client()),
        row("an ACK", up("A"), drop(BAD_ACK)),
        row("the SYN again", up("S"), to_cdn(), SYN_SENT),
        row("a SYN with another number", up("S", seq=9), opens(), SYN_SENT),
    ],
    REFUSED_BY_ONE: [
        row("the SYN again", up("S"), RESCUED, SYN_SENT),
    ],
    RESCUED_FROM: [
        row("the late SYN-ACK", down("SA"), reset_cdn("R", seq=MINE, handshakes=1)),
        row("a SYN-ACK of another SYN", down("SA", ack=5), drop(STALE)),
        row("the refusal", down("RA", seq=0), drop(STALE)),
        row("data", down("PA", REPLY), drop(STALE)),
    ],
    RESCUED_TO: [
        row("the SYN again", up("S"), to_cdn()),
        row("the SYN-ACK", down("SA"), to_client(handshakes=1), SYN_RECV),
        row("the ACK of the first CDN's answer", up("A", ack=THEIRS), drop(BAD_ACK)),
    ],
    EVICTED: [
        row("a CDN's data, by which it is known again", down("PA", REPLY), to_client(segments_from=1)),
        row("a client's data", up("PA", REQUEST), reset_client("R", seq=THEIRS)),
        row("a SYN", up("S", seq=9), opens(), SYN_SENT),
    ],
    FORMER_OWNER: [
        row("its own data", up("PA", REQUEST), reset_client("R", seq=THEIRS)),
        row("its own late ACK", up("A"), reset_client("R", seq=THEIRS)),
    ],
    NEW_OWNER: [
        row("data", up("PA", REQUEST), to_cdn(segments_to=1)),
        row("a CDN's data", down("PA", REPLY), to_client(segments_from=1)),
        row(
            "a CDN's data to the former one",
            down("PA", REPLY, seq=THEIRS),
            to_client(segments_from=1, resent_from=1),
        ),
        row("a CDN's reset", down("R"), to_client(closed=1), CLOSING),
    ],
}


@pytest.mark.parametrize(("given", "row", "family"), cases(TABLE))
def test_tcp(bare: DataPath, given: Given, row: Row, family: int) -> None:
    check(bare, given, row, family)
