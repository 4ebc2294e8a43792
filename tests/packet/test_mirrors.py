"""cdnctl/datapath/abi.py against bpf/abi.h as it is compiled: every struct, field, enum value and number."""

from __future__ import annotations

import ctypes
import enum
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import DataPath

from cdnctl import config
from cdnctl.config import schema
from cdnctl.datapath import abi, build, counters, kernel, perf
from cdnctl.datapath.kernel import Map
from cdnctl.paths import bpf_dir
from cdnctl.steering import maglev

_STRUCT = re.compile(r"^struct (\w+) \{\n(.*?)^\};", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"(\w+)(?:\[\w+\])*;")
_ENUM = re.compile(r"^enum (\w+) \{\n(.*?)^\};", re.MULTILINE | re.DOTALL)
_DEFINE = re.compile(r"^#define (\w+) (.+)$", re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_USER_SPACE_HAS_NONE = {"pick_table"}
"""Structs written by other means: an array of 16-bit numbers."""
_ENUMS = {
    "verdict": abi.Verdict,
    "mode_flag": abi.Mode,
    "surge_kind": abi.SurgeKind,
    "address_use": abi.AddressUse,
    "stage": abi.Stage,
    "local_kind": abi.LocalKind,
    "policy": abi.Policy,
    "traffic_class": abi.TrafficClass,
    "pool": abi.Pool,
    "transport": abi.Transport,
    "endpoint_flag": abi.EndpointFlag,
    "slot_state": abi.SlotState,
    "flow_flag": abi.FlowFlag,
    "breaker": abi.Breaker,
    "out_reason": abi.OutReason,
    "event_kind": abi.EventKind,
    "fragment_policy": abi.FragmentPolicy,
    "client_flag": abi.ClientFlag,
    "level": abi.Level,
    "budget": abi.Budget,
    "model_mode": abi.ModelMode,
    "feature": abi.Feature,
}
_PREFIX = {
    "mode_flag": "MODE_",
    "surge_kind": "SURGE_",
    "address_use": "ADDRESS_",
    "stage": "STAGE_",
    "local_kind": "LOCAL_",
    "policy": "POLICY_",
    "traffic_class": "CLASS_",
    "pool": "POOL_",
    "transport": "TRANSPORT_",
    "endpoint_flag": "ENDPOINT_",
    "slot_state": "SLOT_",
    "flow_flag": "FLOW_",
    "breaker": "BREAKER_",
    "out_reason": "OUT_",
    "event_kind": "EVENT_",
    "fragment_policy": "FRAGMENTS_",
    "client_flag": "CLIENT_",
    "level": "LEVEL_",
    "budget": "BUDGET_",
    "model_mode": "MODEL_",
    "feature": "FEATURE_",
}
_NOT_A_VALUE = {
    "VERDICTS", "FIRST_DROP", "STAGES", "CLASSES", "CLASS_BY_DSCP", "POOLS", "BUDGETS", "MODEL_MODES",
    "FEATURES", "SURGES",
}  # fmt: skip
"""How many there are, and such: `abi` has them by these names."""


class Header(NamedTuple):
    """bpf/abi.h as text has it, without numbers."""

    structs: dict[str, list[str]]
    enums: dict[str, list[str]]
    defines: list[str]


def read_header() -> Header:
    """Names from the text; what they are worth only the compiler says."""
    text = _COMMENT.sub("", (bpf_dir() / "abi.h").read_text())
    enums = {
        name: [line.partition("=")[0].strip() for line in body.split(",") if line.strip()]
        for name, body in _ENUM.findall(text)
    }
    structs = {name: _FIELD.findall(body) for name, body in _STRUCT.findall(text)}
    return Header(structs, enums, [name for name, _ in _DEFINE.findall(text)])


def mirror_of(struct: str) -> type[ctypes.Structure]:
    """`flow_key` is `FlowKey`."""
    found = getattr(abi, "".join(word.title() for word in struct.split("_")), None)
    assert found is not None, f"abi.py has no mirror of struct {struct}"
    return found  # type: ignore[no-any-return]


INDEX, WORD = ctypes.c_uint32, ctypes.c_uint64
HEADER = read_header()
MIRRORED = {name: fields for name, fields in HEADER.structs.items() if name not in _USER_SPACE_HAS_NONE}


@pytest.fixture(scope="module")
def compiled() -> dict[str, int]:
    """What the compiler makes of each expression."""
    constants = HEADER.defines + [name for names in HEADER.enums.values() for name in names]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("layout_probe.py")],
        input=json.dumps({"structs": HEADER.structs, "constants": constants}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_the_header_was_read_at_all() -> None:
    assert len(HEADER.structs) >= 30
    assert HEADER.structs["flow"][:3] == ["syn_ns", "slot", "generation"]
    assert HEADER.enums["breaker"] == ["BREAKER_IN", "BREAKER_OUT"]
    assert "BLOCK_WORDS" in HEADER.defines


@pytest.mark.parametrize("struct", MIRRORED)
def test_a_struct_has_the_same_fields_at_the_same_places(struct: str, compiled: dict[str, int]) -> None:
    mirror = mirror_of(struct)
    assert ctypes.sizeof(mirror) == compiled[f"sizeof(struct {struct})"]
    assert [field[0] for field in mirror._fields_] == HEADER.structs[struct]
    for field in HEADER.structs[struct]:
        place = getattr(mirror, field)
        assert (place.offset, place.size) == (
            compiled[f"__builtin_offsetof(struct {struct}, {field})"],
            compiled[f"sizeof(((struct {struct} *)0)->{field})"],
        ), field


@pytest.mark.parametrize(
    "struct",
    [
        "address",
        "link_key",
        "service_key",
        "endpoint_key",
        "flow_key",
        "prefix_key",
        "quic_id",
        "fragment_key",
        "sample",
        "event",
    ],
)
def test_a_key_or_record_has_no_holes(struct: str, compiled: dict[str, int]) -> None:
    # a hole is bytes that nobody wrote: in a key that is another key, in a record what the stack held
    fields = HEADER.structs[struct]
    used = sum(compiled[f"sizeof(((struct {struct} *)0)->{field})"] for field in fields)
    assert used == compiled[f"sizeof(struct {struct})"]


def test_every_mirror_has_its_struct() -> None:
    mirrors = {
        name for name, value in vars(abi).items()
        if isinstance(value, type) and issubclass(value, ctypes.Structure) and value is not ctypes.Structure
    }  # fmt: skip
    assert mirrors == {mirror_of(struct).__name__ for struct in MIRRORED}


@pytest.mark.parametrize("name", HEADER.enums)
def test_an_enum_has_the_same_values(name: str, compiled: dict[str, int]) -> None:
    values = {
        entry.removeprefix(_PREFIX.get(name, "")): compiled[entry]
        for entry in HEADER.enums[name]
        if entry not in _NOT_A_VALUE
    }
    assert {member.name: member.value for member in _ENUMS[name]} == values


def test_every_enum_is_mirrored() -> None:
    mirrors = {
        value for value in vars(abi).values()
        if isinstance(value, type) and issubclass(value, enum.Enum)
    }  # fmt: skip
    assert mirrors == set(_ENUMS.values())
    assert set(_ENUMS) == set(HEADER.enums)


def test_numbers_are_the_same(compiled: dict[str, int]) -> None:
    for name in [*HEADER.defines, *_NOT_A_VALUE]:
        assert getattr(abi, name) == compiled[name], name


def test_limits_of_the_configuration_are_those_of_the_data_path() -> None:
    limits = [name for name in vars(schema) if name.startswith("MAX_") and hasattr(abi, name)]
    assert {"MAX_CDNS", "MAX_ENDPOINTS", "MAX_SERVICES", "MAX_SNAT", "MAX_REGIONS", "MAX_CUSTOMERS"} <= set(
        limits
    )
    for name in limits:
        assert getattr(schema, name) == getattr(abi, name), name
    assert config.Limits().endpoints <= abi.MAX_ENDPOINTS
    assert maglev.SLOTS == abi.PICK_SLOTS
    assert [abi.TrafficClass[name.upper()] for name in config.CLASSES] == list(range(abi.CLASSES))


def test_tables_have_room_for_what_the_configuration_allows(loaded: DataPath) -> None:
    assert loaded.map("clients").info.max_entries == abi.MAX_CLIENTS == schema.MAX_CLIENT_PREFIXES
    assert loaded.map("management").info.max_entries == schema.MAX_MANAGEMENT
    assert loaded.map("announced").info.max_entries == abi.MAX_ANNOUNCED == schema.MAX_ANNOUNCED
    assert loaded.map("invited").info.max_entries == abi.MAX_INVITED == schema.MAX_INVITED


def test_hand_written_layouts_are_those_of_their_structs() -> None:
    assert counters._COUNT.size == abi.size(abi.Count)
    assert counters._CDN_COUNT.size == abi.size(abi.CdnCount)
    assert counters._CUSTOMER_COUNT.size == abi.size(abi.CustomerCount)
    assert counters._BUCKETS.size == abi.size(abi.Histogram)
    assert perf._EVENT.size == abi.size(abi.Event)
    assert perf._SAMPLE.size == abi.size(abi.Sample)
    assert perf._BINDING.size == abi.size(abi.Binding)
    assert list(perf.Binding._fields) == [name for name, *_ in abi.Binding._fields_]
    order = [name for name, *_ in abi.Event._fields_]
    assert order == ["at_ns", "kind", "reason", "endpoint", "to_endpoint", "value", "ejections"]
    assert list(perf.Reflex._fields) == order
    assert list(perf.Sample._fields) == [name for name, *_ in abi.Sample._fields_ if name != "pad"]
    assert list(counters.CdnTotals._fields) == [
        *(f"{way}_{what}" for way in ("to_cdn", "from_cdn") for what in ("packets", "bytes")),
        *(name for name, *_ in abi.CdnCount._fields_[2:]),
    ]
    assert list(counters.CustomerTotals._fields) == [
        *(f"{what}_{unit}" for what in ("passed", "dropped") for unit in ("packets", "bytes")),
        *(name for name, *_ in abi.CustomerCount._fields_[2:]),
    ]


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("mode", INDEX, INDEX),
        ("held_until", INDEX, WORD),
        ("settings", INDEX, abi.Settings),
        ("shields", INDEX, abi.Shield),
        ("amplifiers", INDEX, WORD),
        ("identity", INDEX, abi.Identity),
        ("local_addresses", abi.Address, abi.Local),
        ("local_cells", INDEX, abi.LocalCell),
        ("link_ids", abi.LinkKey, INDEX),
        ("links", INDEX, abi.Link),
        ("service_ids", abi.ServiceKey, INDEX),
        ("services", INDEX, abi.Service),
        ("picks", INDEX, ctypes.c_uint16 * abi.PICK_ROOM),
        ("endpoint_ids", abi.EndpointKey, INDEX),
        ("endpoints", INDEX, abi.Endpoint),
        ("capacities", INDEX, abi.Limit),
        ("customer_limits", INDEX, abi.Limit),
        ("clients", abi.PrefixKey, abi.Client),
        ("allowed_prefixes", INDEX, INDEX),
        ("management", abi.PrefixKey, INDEX),
        ("invited", abi.PrefixKey, INDEX),
        ("announced", abi.PrefixKey, INDEX),
        ("block_bits", INDEX, WORD),
        ("block6_bits", INDEX, WORD),
        ("block_wide", INDEX, INDEX),
        ("block_lines", INDEX, abi.BlockLine),
        ("block_hits", INDEX, WORD),
        ("block_exact", abi.Address, abi.Block),
        ("block_prefix", abi.PrefixKey, abi.Block),
        ("half_open", abi.FlowKey, abi.Flow),
        ("established", abi.FlowKey, abi.Flow),
        ("datagrams", abi.FlowKey, abi.Flow),
        ("reverse", INDEX, abi.Slot),
        ("fragments", abi.FragmentKey, abi.Fragment),
        ("quic_ids", abi.QuicId, INDEX),
        ("quic_offers", abi.QuicId, INDEX),
        ("heard_of", INDEX, abi.Heard),
        ("health", INDEX, abi.Health),
        ("weight_out", INDEX, WORD),
        ("loads", INDEX, abi.Meter),
        ("meters", INDEX, abi.Meter),
        ("sources", abi.Address, abi.Meter),
        ("sketches", INDEX, abi.Sketch),
        ("verified", abi.Address, abi.Verified),
        ("budgets", INDEX, WORD),
        ("retries", INDEX, abi.RetrySet),
        ("surges", INDEX, abi.Surge),
        ("manners", INDEX, abi.Manner),
        ("models", INDEX, abi.Model),
        ("hops", INDEX, abi.Hop),
        ("verdicts", INDEX, abi.Count),
        ("cdn_counts", INDEX, abi.CdnCount),
        ("customer_counts", INDEX, abi.CustomerCount),
        ("service_flows", INDEX, WORD),
        ("handshakes", INDEX, abi.Histogram),
        ("first_bytes", INDEX, abi.Histogram),
        ("counted_before", INDEX, abi.Counted),
        ("sweeps", INDEX, abi.Sweep),
        ("census", INDEX, WORD),
        ("clock", INDEX, WORD),
    ],
)
def test_a_loaded_map_has_the_mirrored_sizes(loaded: DataPath, table: str, key: type, value: type) -> None:
    info = Map.pinned(loaded.program.pins / table).info
    assert (info.key_size, info.value_size) == (ctypes.sizeof(key), ctypes.sizeof(value))


def test_every_pinned_map_was_looked_at(loaded: DataPath) -> None:
    looked_at = {param[0] for param in test_a_loaded_map_has_the_mirrored_sizes.pytestmark[0].args[1]}
    assert {path.name for path in loaded.program.pins.iterdir()} - looked_at == set(build.PINNED)


def test_every_stage_is_a_program() -> None:
    """A stage that is missing is a drop of whatever goes on in it."""
    stages = {stage.name.lower() for stage in abi.Stage}
    assert set(build.functions(build.source())) == {build.PROGRAM, build.SWEEP, *stages}


def test_the_verifier_has_room_left(loaded: DataPath) -> None:
    """The kernel gives up at a million for one program; all together they must load in no time.

    Counted as shipped: with a clock that can be set there is more to walk.
    """
    built = loaded.program.built
    assert built is not None
    assert built.load_s < 1
    assert built.multi_buffer, "this kernel can"
    text = build.source()
    shipped = build.compiled_for(text, (), pytest.fail)
    with build.load(shipped, loaded.program.pins, text, (), None) as programs:
        walked = {name: kernel.verified_instructions(fd) for name, fd in programs.programs.items()}
    assert 10_000 < sum(walked.values()) <= 200_000
    assert max(walked.values()) < 100_000
    assert built.instructions[build.PROGRAM] == kernel.verified_instructions(loaded.fd)
