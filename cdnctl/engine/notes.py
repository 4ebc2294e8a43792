"""A traced packet's notes (bpf/trace.h) in words, one by one: what was looked up, and what was found."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from msgspec import Struct

from cdnctl.datapath import abi
from cdnctl.datapath.abi.noted import (
    Begins,
    Belongs,
    Claim,
    Exemption,
    Fitness,
    NoteKind,
    Onward,
    Standing,
    Welcome,
)
from cdnctl.datapath.packets import Packet
from cdnctl.datapath.tracer import Note
from cdnctl.engine.entries import Entries, duration, interface
from cdnctl.engine.explain import EXPLANATION
from cdnctl.model import FEATURES

_HELD_SHOWN = 3

GOES_ON = {
    Onward.TO_CDN: "to be sent to its CDN",
    Onward.TO_CLIENT: "to be sent to its client",
    Onward.TO_HANDSHAKE: "it begins or ends a flow, or is a reply",
    Onward.TO_OPENING: "a new flow is to be opened",
    Onward.TO_PICKING: "an endpoint is to be picked",
    Onward.TO_BINDING: "the flow is to be noted, with a port of ours if it is translated",
    Onward.TO_CLAMPING: "a SYN, which may promise no more than its path takes",
    Onward.TO_ICMP: "an ICMP message",
    Onward.TO_FRAGMENT: "a fragment",
    Onward.TO_QUIC: "a QUIC long header, which names a connection's id",
    Onward.TO_CHALLENGE: "in siege: its source is to prove where it is, or just has",
    Onward.TO_WEIGHING: "how its source behaves is weighed",
    Onward.TO_LETTING_IN: "its source is known now: may it?",
    Onward.TO_NOTING: "that its client has finished a handshake, or ended a flow, is noted",
    Onward.TO_DOOR: "no flow takes it: may it go to the host all the same?",
    Onward.RESET_TO_CLIENT: "to be answered with a reset",
    Onward.RESET_TO_CDN: "to be answered with a reset",
    Onward.ANSWER_ECHO: "to be answered: an echo request",
    Onward.ANSWER_TOO_BIG: "too big for its way: its sender must hear of it",
    Onward.ANSWER_TOO_LATE: "its TTL ends here: its sender must hear of it",
    Onward.ANSWER_CHALLENGE: "to be challenged: answered with a number that a real stack sends back",
}
FITNESS = {
    Fitness.UNFIT_EXCEPTED: "no: the first pick's own CDN",
    Fitness.UNFIT_OUT: "no: out of rotation",
    Fitness.UNFIT_DARK: "no: found dark just now",
    Fitness.UNFIT_SUSPECT: "no: its last handshakes were too slow",
    Fitness.UNFIT_FULL: "no: at its CDN's capacity",
    Fitness.UNFIT_STARTING: "no: back since a short while, and not yet with all of its share",
    Fitness.FIT: "fit",
    Fitness.FIT_FOR_PROBE: "fit for a probe",
}


class Step(Struct, frozen=True):
    """One thing that was looked up or decided."""

    what: str
    found: str


class Notes:
    """Takes them in order, and remembers what the next ones are about."""

    def __init__(self, packet: Packet, entries: Entries) -> None:
        self.steps: list[Step] = []
        self.mode = abi.Mode(0)
        self.endpoint = -1
        """The last that was spoken of."""
        self.out = ""
        """The interface that it leaves by."""
        self.blocked = ""
        """The prefix that is blocked."""
        self.verdict, self.cdn = abi.Verdict.NO_STAGE, abi.NO_CDN_ID
        """The last word, and whom it is counted for."""
        self._packet = packet
        self._client = packet.source
        self._entries = entries
        self._vip = 0
        self._rescue = False
        self._held: list[int] = []
        self._words: dict[NoteKind, Callable[[int, int], None]] = {
            kind: getattr(self, f"_note_{kind.name.lower()}") for kind in NoteKind
        }

    def take(self, note: Note) -> None:
        """The next one."""
        if self._held and note.kind is not NoteKind.PORT:
            self._tell_held()
        self._words[note.kind](note.a, note.b)

    def add(self, what: str, found: str) -> None:
        """One more step."""
        if Step(what, found) not in self.steps:  # a stage looks up again what the one before it did
            self.steps.append(Step(what, found))

    # -- whose is it? --

    def _note_mode(self, mode: int, generation: int) -> None:
        self.mode = abi.Mode(mode)
        said = {
            abi.Mode.DISARMED: "disarmed: nothing is blocked, limited or ejected",
            abi.Mode.BYPASS: "bypassed: every packet passes untouched",
            abi.Mode.OBSERVE: "observing: it decides and counts, and passes every packet",
        }
        modes = [text for flag, text in said.items() if flag in self.mode] or ["armed"]
        self.add("edge", f"{'; '.join(modes)}; policy generation {generation}")

    def _note_local(self, kind: int, index: int) -> None:
        target = self._packet.target
        if kind == abi.LocalKind.VIP:
            self._vip = index
            self.add("destination", f"{target} is a VIP")
        elif kind == abi.LocalKind.SNAT:
            self.add("destination", f"{target} is a SNAT address: a reply of a CDN, or the host's own")
        else:
            self.add("destination", f"{target} is not the edge's: only the block list is asked")

    def _note_host_port(self, _a: int, _b: int) -> None:
        self.add("port", f"{self._packet.target_port} is none of the SNAT ports: the host's own")

    def _note_endpoint(self, endpoint: int, _b: int) -> None:
        if endpoint == abi.NOWHERE:
            source = abi.ends(self._packet.source, self._packet.source_port)
            self.add("sender", f"{source} is no endpoint")
        else:
            self.endpoint = endpoint
            self.add("sender", f"endpoint {self._entries.endpoint(endpoint)}")

    def _note_slot(self, index: int, owner: int) -> None:
        port, slot = self._entries.port_of(index), self._entries.slot(index)
        if owner and slot:
            self._client = abi.show_address(slot.client)
        self.add("reverse slot", f"{port} is held by {self._holder(index)}")

    def _holder(self, index: int) -> str:
        holder = self._entries.holder(index)
        return "nobody" if holder == "free" else holder

    def _note_flow(self, belongs: int, slot: int) -> None:
        if belongs == Belongs.TO_NEW_FLOW:
            self.add("flow", "none is known, under way or half-open")
            return
        half_open = belongs == Belongs.TO_HALF_OPEN
        found = self._entries.flow(self._key(), half_open)
        if found is None:
            self.add("flow", f"{'half-open' if half_open else 'under way'}, and gone meanwhile")
            return
        kind, flow = found
        self.endpoint = int(flow.endpoint)
        said = [f"{kind}, to {self._entries.endpoint(flow.endpoint)}"]
        if slot != abi.NO_SLOT:
            said.append(f"from {self._entries.port_of(slot)}")
        if half_open:
            age_s = max(0, self._entries.now_ns - flow.syn_ns) / 1e9
            heard = "answered" if flow.flags & abi.FlowFlag.SYNACK else "not answered yet"
            said.append(f"first packet {duration(age_s)} ago, {heard}")
        if customer := flow.customer & ~abi.CUSTOMER_ALLOWED:
            said.append(self._entries.customer(customer))
        self.add("flow", ", ".join(said))

    def _key(self) -> abi.FlowKey:
        packet = self._packet
        return abi.FlowKey(
            client=abi.address(packet.source),
            client_port=abi.port(packet.source_port),
            vip_port=abi.port(packet.target_port),
            vip=self._vip,
            protocol=packet.number,
        )

    def _note_forward(self, found: int, _b: int) -> None:
        self.add("forward entry", "there" if found else "evicted: it would be rebuilt from the slot")

    # -- may it? --

    def _note_admitted(self, generation: int, _b: int) -> None:
        self.add("admission", f"cached under policy generation {generation}: the block list is not asked")

    def _note_hint(self, tables: int, _b: int) -> None:
        if abi.Mode.DISARMED in self.mode:
            self.add("block list", "not asked: the edge is disarmed")
        elif not tables:
            self.add("block list", "nothing is blocked in its network")
        else:
            self.add("block list", "something is blocked in its network: the tables are asked")

    def _note_expired(self, length: int, _b: int) -> None:
        self.add("block list", f"{self._prefix(length)} was blocked, and its time is over")

    def _note_block(self, length: int, expires_ns: int) -> None:
        left_s = (expires_ns - self._entries.now_ns) / 1e9
        self.blocked = self._prefix(length)
        end = f"for {duration(left_s)} more" if expires_ns else "forever"
        self.add("block list", f"{self.blocked} is blocked {end}")

    def _prefix(self, length: int) -> str:
        """Of the client, that long; a CDN's reply is judged by whom it is for."""
        who = ipaddress.ip_address(self._client)
        length -= 96 if who.version == 4 else 0
        return str(ipaddress.ip_network((who, length), strict=False))

    def _note_exempt(self, why: int, _b: int) -> None:
        said = {
            Exemption.ALLOWED: "an allowed prefix: let through all the same",
            Exemption.MANAGEMENT: "a management prefix, on its way to the host: let through all the same",
            Exemption.NEIGHBOUR: "it asks who is whose neighbour: let through all the same",
        }
        self.add("exempt", said[Exemption(why)])

    def _note_door(self, welcome: int, _b: int) -> None:
        said = {
            Welcome.NOT: "it may not talk to SNAT addresses: nobody's that [edge] snat_from leaves them to",
            Welcome.INVITED: "it may talk to SNAT addresses: it is on the list",
            Welcome.ON_LINK: "let in, for the link lives on it: a neighbour's word, or a lease",
            Welcome.ASKED: "let in, for the host has a connection with it",
        }
        self.add("door", said[Welcome(welcome)])

    def _note_quota(self, customer: int, verdict: int) -> None:
        customer &= ~abi.CUSTOMER_ALLOWED
        tables = self._entries.tables
        if customer and _limits(tables.clients.limit(customer)):
            who = f"of {self._entries.customer(customer)}"
        elif _limits(tables.settings.source_limit):
            who = "of its source"
        else:
            return  # there are none
        self.add("limits", f"{who}: {EXPLANATION[abi.Verdict(verdict)] if verdict else 'within them'}")

    def _note_shield(self, level: int, _b: int) -> None:
        self.add("shield", abi.Level(level).name.lower())

    def _note_standing(self, standing: int, when_ns: int) -> None:
        left_s = (when_ns - self._entries.now_ns) / 1e9
        said = {
            Standing.STRANGER: "unverified",
            Standing.VERIFIED: f"verified for {duration(max(0.0, left_s))} more",
            Standing.AGAIN: f"unverified; the same SYN came {duration(when_ns / 1e9)} ago",
            Standing.PROVES: "the reset has the number of a challenge: it is verified from now on",
            Standing.FAILS: "the reset has no number of a challenge",
        }
        self.add("source", said[Standing(standing)])

    def _note_budget(self, verdict: int, _b: int) -> None:
        self.add("share", EXPLANATION[abi.Verdict(verdict)] if verdict else "within it")

    def _note_features(self, packed: int, _b: int) -> None:
        values = zip(FEATURES, packed.to_bytes(len(FEATURES), "little"), strict=True)
        self.add("manner", ", ".join(f"{name} {value}" for name, value in values if value) or "none yet")

    def _note_model(self, score: int, mode: int) -> None:
        score -= (score >> 63) << 64
        said = "suspicious" if score > 0 else "not suspicious"
        watched = ", which decides nothing" if mode == abi.ModelMode.OBSERVE and score > 0 else ""
        self.add("model", f"{said}{watched} (a score of {score:,})")

    # -- where to? --

    def _note_stage(self, onward: int, _b: int) -> None:
        self.add("goes on", GOES_ON[Onward(onward)])

    @property
    def transport(self) -> abi.Transport:
        """How packets get to the endpoint found so far."""
        return abi.Transport(self._entries.tables.choice.endpoint(max(0, self.endpoint)).transport)

    def _note_service(self, service: int, _b: int) -> None:
        ends = abi.ends(self._packet.target, self._packet.target_port)
        found = self._entries.service(service) if service != abi.NOWHERE else f"none on {ends}"
        self.add("service", found)

    def _note_client(self, customer: int, rest: int) -> None:
        known = self._entries.tables.clients.covering(self._packet.source)
        said = [f"prefix {known[0]}" if known else "in no known prefix"]
        if customer & abi.CUSTOMER_ALLOWED:
            said.append("allowed: not blocked, not limited")
        if customer := customer & ~abi.CUSTOMER_ALLOWED:
            said.append(self._entries.customer(customer))
        said.append(self._entries.region(rest & 0xFFFF))
        said.append(f"class {abi.TrafficClass(rest >> 16).name.lower()}")
        self.add("client", ", ".join(said))

    def _note_connection(self, endpoint: int, begins: int) -> None:
        if begins == Begins.ANOTHER_WAY:
            self.add("QUIC", f"a connection under way at {self._entries.endpoint(endpoint)}: no pick")
        elif begins == Begins.CONNECTION:
            self.add("QUIC", "a new connection")
        elif begins == Begins.IN_THE_MIDDLE:
            self.add("QUIC", "the middle of a connection that nobody knows")

    def _note_table(self, table: int, policy: int) -> None:
        self.add("pick table", f"number {table}, policy {abi.Policy(policy).name.lower()}")

    def _note_try(self, endpoint: int, fitness: int) -> None:
        health = self._entries.health(endpoint)
        known = f" ({health})" if health else ""
        found = FITNESS[Fitness(fitness)]
        if self._rescue and fitness == Fitness.UNFIT_EXCEPTED:
            found = "no: the flow is being rescued from its CDN"
        self.add("try", f"{self._entries.endpoint(endpoint)}: {found}{known}")

    def _note_picked(self, endpoint: int, probe: int) -> None:
        self.endpoint = endpoint
        self.add("pick", self._entries.endpoint(endpoint) + (", as a probe" if probe else ""))

    def _note_again(self, age_ns: int, patience_ns: int) -> None:
        over = "past" if age_ns > patience_ns else "within"
        self.add(
            "sent again",
            f"{duration(age_ns / 1e9)} after the first, {over} the {duration(patience_ns / 1e9)} of patience",
        )

    def _note_rescue(self, cdn: int, _b: int) -> None:
        self._rescue = True
        self.add("rescue", f"the flow is to be taken from {self._entries.cdn(cdn)}")

    def _note_gone_dark(self, endpoint: int, _b: int) -> None:
        self.add("rescue", f"sent again into {self._entries.endpoint(endpoint)}, which is dark")

    def _note_promoted(self, _slot: int, proven: int) -> None:
        if proven:
            self.add("handshake", "the client has proved itself: the flow is established")
        else:
            self.add("handshake", "both ends have spoken, which proves nothing: the flow is of datagrams")

    # -- by which port, which way? --

    def _note_port(self, index: int, claim: int) -> None:
        if claim == Claim.HELD:
            self._held.append(index)
            return
        self._tell_held()
        port = self._entries.port_of(index)
        before = f", after {self._entries.holder(index)}" if claim == Claim.RECLAIMED else ""
        others = self._entries.tables.settings.snat_count[self._packet.family == 6] > 1
        self.add("SNAT port", f"{port} is free{before}{' (which address, chance says)' if others else ''}")

    def _tell_held(self) -> None:
        for index in self._held[:_HELD_SHOWN]:
            self.add("SNAT port", f"{self._entries.port_of(index)} is held by {self._holder(index)}")
        if len(self._held) > _HELD_SHOWN:
            self.add("SNAT port", f"{len(self._held) - _HELD_SHOWN} more are held")
        self._held = []

    def _note_clamp(self, most: int, _b: int) -> None:
        self.add("MSS", f"{most} at most" if most else "as the client says")

    def _note_way_back(self, link: int, _b: int) -> None:
        if link == abi.NOWHERE:
            self.add("way back", "it came in by no link of the edge: replies could not be sent")
        else:
            self.add("way back", f"replies go out of {self._entries.link(link)}, to where it came from")

    def _note_hop(self, link: int, verdict: int) -> None:
        mtu, link = link >> 32, link & 0xFFFF_FFFF
        asked = "asked just now" if verdict >> 8 else "cached"
        found = abi.Verdict(verdict & 0xFF)
        if found is abi.Verdict.FORWARDED:
            size = f", MTU {mtu}" if mtu else ""
            self.add("next hop", f"by {self._entries.link(link)}{size} ({asked})")
        else:
            self.add("next hop", f"none ({asked}): {EXPLANATION[found]}")

    def _note_out(self, ifindex: int, _b: int) -> None:
        self.out = interface(ifindex)

    def _note_event(self, kind: int, endpoint: int) -> None:
        event = abi.EventKind(kind & 0xFF).name.lower().replace("_", " ")
        self.add("would be told", f"{event}: {self._entries.endpoint(endpoint)}")

    def _note_verdict(self, verdict: int, cdn: int) -> None:
        self.verdict, self.cdn = abi.Verdict(verdict), cdn


def _limits(limit: abi.Limit) -> bool:
    return bool(limit.packet_ticks or limit.kib_ticks or limit.flow_ticks)
