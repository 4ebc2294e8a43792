"""What handshakes say about a CDN, and where the latency policy sends new flows for it."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from connects import (
    client,
    connect,
    is_out,
    learn,
    new_window,
    slow_handshake,
    spread,
)
from harness import AURORA, BOREALIS, CDNS, MS, DataPath
from session import Session

from cdnctl.datapath import abi


class TestMeasures:
    @pytest.mark.parametrize("ms", [1, 3, 10, 47, 250, 2000])
    def test_a_handshake_lands_in_its_bucket(self, path: DataPath, ms: int) -> None:
        before = path.tables.counters.handshakes(path.layout.cdns[AURORA])
        start = time.monotonic()
        slow_handshake(path, 1, ms)
        took_us = (time.monotonic() - start) * 1e6
        after = path.tables.counters.handshakes(path.layout.cdns[AURORA])
        (bucket,) = [n for n, (new, old) in enumerate(zip(after, before, strict=True)) if new != old]
        low, high = abi.bucket_limits_us(bucket)
        assert high > ms * 1000
        assert low <= ms * 1000 + took_us
        assert high <= low * 1.126

    def test_handshakes_teach_what_is_usual(self, path: DataPath) -> None:
        for n in range(60):
            new_window(path)
            slow_handshake(path, n, ms=100)
        health = path.health(AURORA)
        assert health.samples == 60
        assert 100_000 <= health.baseline_us < 150_000
        assert not is_out(path)

    def test_a_peak_counts_at_once_and_fades_with_time(self, path: DataPath) -> None:
        learn(path)
        slow_handshake(path, 1, ms=160)
        peak = path.health(AURORA).ewma_us
        assert peak >= 160_000
        Session(path, client=client(2)).open()
        soon = path.health(AURORA).ewma_us
        assert 0.7 * peak < soon < peak
        path.change_health(AURORA, ewma_at_ns=path.health(AURORA).ewma_at_ns - 1100 * MS)
        Session(path, client=client(2)).open()
        assert path.health(AURORA).ewma_us < 20_000


class TestLatencyPolicy:
    def known(self, path: DataPath, **ewma_ms: int) -> None:
        for cdn in CDNS:
            path.change_health(
                cdn,
                ewma_us=ewma_ms.get(cdn, 10) * 1000,
                ewma_at_ns=time.monotonic_ns(),
                samples=20,
                baseline_us=9000,
            )

    def test_the_slower_one_gets_nothing_while_others_are_better(self, path: DataPath) -> None:
        self.known(path, aurora=160)
        found = Counter[str]()
        for n in range(300):
            session = connect(path, n, "fast")
            found[session.cdn] += 1
            session.syn_ack()
            self.known(path, aurora=160)
        assert found[AURORA] <= 3
        assert 100 <= found[BOREALIS] <= 200

    def test_within_the_band_weights_decide(self, path: DataPath) -> None:
        found = Counter[str]()
        for n in range(300):
            self.known(path, aurora=12, borealis=11, corona=10)
            session = connect(path, n, "fast")
            found[session.cdn] += 1
            session.syn_ack()
        assert all(60 <= found[cdn] <= 140 for cdn in CDNS), found

    def test_an_old_peak_is_tried_again(self, path: DataPath) -> None:
        self.known(path, aurora=160)
        path.change_health(AURORA, ewma_at_ns=time.monotonic_ns() - 13_000 * MS)
        assert spread(path, 90, "fast")[AURORA] > 10

    def test_disarmed_plain_weights_decide(self, path: DataPath) -> None:
        self.known(path, aurora=160)
        path.tables.mode = abi.Mode.DISARMED
        assert spread(path, 150, "fast")[AURORA] > 25

    def test_weights_are_kept_by_the_table(self, path: DataPath) -> None:
        found = spread(path, 600)
        assert all(150 <= found[cdn] <= 250 for cdn in CDNS), found
