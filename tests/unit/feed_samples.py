"""A list in every format, small, with what it says."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Sample(NamedTuple):
    """A list, and the prefixes that are in it."""

    name: str
    text: str
    kind: str
    prefixes: tuple[str, ...]
    timed: Mapping[int, tuple[str, ...]] = MappingProxyType({})
    """By lifetime in seconds."""


SAMPLES = [
    Sample("cidr", "192.0.2.0/25\n198.51.100.0/24\n", "either", ("192.0.2.0/25", "198.51.100.0/24")),
    Sample(
        "cidr6", "2001:db8:1::/48\r\n2001:db8:5::/48\r\n", "either", ("2001:db8:1::/48", "2001:db8:5::/48")
    ),
    Sample(
        "text-ids",
        "; Some list 2026/11/23\n; Last-Modified: today\n192.0.2.0/24 ; SBL123\n2001:db8::/32 ; SBL9\n",
        "either",
        ("192.0.2.0/24", "2001:db8::/32"),
    ),
    Sample(
        "comments",
        "#\n# a list of level 1\n#\n192.0.2.7\n198.51.100.0/24 # since May\n\n203.0.113.9\n",
        "either",
        ("192.0.2.7", "198.51.100.0/24", "203.0.113.9"),
    ),
    Sample(
        "addresses",
        '{"addresses":["192.0.2.0/24"],\n"ipv6_addresses":["2001:db8::/32"]}',
        "ranges",
        ("192.0.2.0/24", "2001:db8::/32"),
    ),
    Sample(
        "addresses_v6",
        '{"addresses":["192.0.2.0/24"],\n"addresses_v6":["2001:db8::/32"]}',
        "ranges",
        ("192.0.2.0/24", "2001:db8::/32"),
    ),
    Sample(
        "services",
        '{"syncToken":"1","prefixes":[\n{"ip_prefix":"192.0.2.0/24","region":"GLOBAL","service":"CLOUDFRONT"},\n'
        '{"ip_prefix":"203.0.113.0/25","region":"x","service":"CLOUDFRONT_ORIGIN_FACING"},\n'
        '{"ip_prefix":"198.51.100.0/24","region":"x","service":"EC2"}],\n'
        '"ipv6_prefixes":[{"ipv6_prefix":"2001:db8::/32","region":"GLOBAL","service":"CLOUDFRONT"}]}',
        "ranges",
        ("192.0.2.0/24", "203.0.113.0/25", "2001:db8::/32"),
    ),
    Sample(
        "prefixes",
        '{"syncToken":"1","prefixes":[\n{"ipv4Prefix":"192.0.2.0/24"},\n{"ipv6Prefix":"2001:db8::/32"}]}',
        "ranges",
        ("192.0.2.0/24", "2001:db8::/32"),
    ),
    Sample("array", '["192.0.2.1",\n"2001:db8::1"]', "ranges", ("192.0.2.1", "2001:db8::1")),
    Sample(
        "ndjson",
        '{"cidr":"192.0.2.0/24","sblid":"SBL1","rir":"ripencc"}\n{"cidr":"198.51.100.0/24","sblid":"SBL2"}\n'
        '{"type":"metadata","timestamp":1,"size":2}\n',
        "blocks",
        ("192.0.2.0/24", "198.51.100.0/24"),
    ),
    Sample(
        "ipset",
        "create bad hash:net family inet hashsize 1024 maxelem 65536 timeout 0\n"
        "add bad 192.0.2.0/24 timeout 3600\nadd bad 198.51.100.7 timeout 0\n"
        'add bad 203.0.113.9 comment "by hand"\n',
        "blocks",
        ("198.51.100.7", "203.0.113.9"),
        {3600: ("192.0.2.0/24",)},
    ),
    Sample(
        "nft",
        "table inet filter {\n\tset bad {\n\t\ttype ipv4_addr\n\t\tflags interval,timeout\n"
        "\t\telements = { 192.0.2.1 timeout 1h expires 30m,\n"
        '\t\t\t     198.51.100.0/24 comment "a } here", 203.0.113.4-203.0.113.7 }\n\t}\n}\n',
        "blocks",
        ("198.51.100.0/24", "203.0.113.4/30"),
        {1800: ("192.0.2.1",)},
    ),
    Sample(
        "crowdsec",
        '{"new":[\n{"value":"192.0.2.1","duration":"3h59m58.5s","scope":"Ip","type":"ban","origin":"x",'
        '"scenario":"y"},\n{"value":"198.51.100.0/24","duration":"4h","scope":"Range","type":"ban"},\n'
        '{"value":"198.51.100.9","duration":"4h","scope":"Ip","type":"captcha"},\n'
        '{"value":"US","duration":"4h","scope":"Country","type":"ban"},\n'
        '{"value":"192.0.2.9","duration":"4h","scope":"Ip","type":"ban"}],\n"deleted":[{"value":"192.0.2.9"}]}',
        "blocks",
        (),
        {4 * 3600: ("192.0.2.1", "198.51.100.0/24")},
    ),
]
HTML = "<!DOCTYPE html>\n<html><head><title>503</title></head>\n<body>192.0.2.0/24 is busy</body></html>\n"
