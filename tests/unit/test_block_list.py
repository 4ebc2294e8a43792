"""`cdnctl block --file`: what is read, what is sent, and what is refused before anything is sent."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from engine_double import ServedDouble
from hypothesis import given
from hypothesis import strategies as st

from cdnctl.cli import block_list, main
from cdnctl.defence import codes
from cdnctl.defence.blocklist import parse_code, show_prefix
from cdnctl.model import BlockList, ListPart

ADDRESSES4, ADDRESSES6 = st.integers(0, 2**32 - 1), st.integers(0, 2**128 - 1)
NETWORKS = st.one_of(
    st.builds(
        lambda n, length: ip_network((n >> (32 - length) << (32 - length), length)),
        ADDRESSES4,
        st.integers(8, 32),
    ),
    st.builds(
        lambda n, length: ip_network(((n | 1 << 127) >> (128 - length) << (128 - length), length)),
        ADDRESSES6,
        st.integers(16, 128),
    ),
)


@given(st.lists(NETWORKS))
def test_codes_are_the_networks_they_were_made_of(networks: list[codes.Network]) -> None:
    made = [codes.of_network(network) for network in networks]
    assert [codes.network(code) for code in made] == networks
    assert [codes.show(code) for code in made] == [show_prefix(network) for network in networks]
    assert sorted(codes.unpack(*codes.pack(made))) == sorted(made)
    for network, code in zip(networks, made, strict=True):
        first, last = codes.span(code)
        for other, its in zip(networks, made, strict=True):
            same = other.version == network.version
            assert (first <= its < last) == (same and other.subnet_of(network) and its >= first)  # type: ignore[arg-type]
            covers = same and network != other and network.subnet_of(other)  # type: ignore[arg-type]
            assert (its in set(codes.around(code))) == covers


def test_a_file_is_sent_in_parts_and_blocked_as_one(
    served: ServedDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_list, "_PART", 2)
    file = tmp_path / "list.txt"
    file.write_text("# ours\n10.1.0.0/16 ; SBL1\n\n10.2.0.1\n10.2.0.1 again\n2001:DB8:0::/48\n")
    assert main(["block", "--file", str(file), "--for", "1h", "--reason", "why", "--confirm", "60"]) == 0
    *parts, last = [command for command, _ in served.engine.asked]
    assert isinstance(last, BlockList)
    assert (last.count, last.name, last.lifetime_s) == (3, "list.txt", 3600)
    assert (last.reason, last.confirm_s) == ("why", 60)
    found = list[int]()
    for part in parts:
        assert isinstance(part, ListPart)
        assert part.list == last.list
        found += codes.unpack(part.four, part.six)
    assert found == [parse_code(text) for text in ("10.1.0.0/16", "10.2.0.1", "2001:db8::/48")]
    assert len(parts) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.0.0.1/24\n", "line 1: 10.0.0.1/24 has bits set beyond its /24"),
        ("10.0.0.0/24\nnobody\n::/0\n", "line 2: 'nobody' is neither an address nor a prefix"),
        ("# nothing\n", "there is no prefix in it"),
    ],
)
def test_a_file_with_a_mistake_is_refused_by_its_lines(
    served: ServedDouble, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file = tmp_path / "list.txt"
    file.write_text(text)
    assert main(["block", "--file", str(file)]) == 1
    assert said in capsys.readouterr().err
    assert not served.engine.asked
    assert main(["block", "--file", str(tmp_path / "none")]) == 1


def test_either_a_prefix_or_a_file(served: ServedDouble, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["10.0.0.1", "--file", "x"]):
        assert main(["block", *words]) == 2
        assert "--file FILE with one a line" in capsys.readouterr().err
    assert not served.engine.asked
