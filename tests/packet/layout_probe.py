"""Has the compiler that builds the data path say how it lays out bpf/abi.h. A process of its own.

    python layout_probe.py < {"structs": {"flow": ["slot", ...], ...}, "constants": ["MAX_CDNS", ...]}

A program that stores every sizeof, offsetof and constant is compiled, loaded and run once; what it
stored comes out as JSON.
"""

from __future__ import annotations

import json
import struct
import sys

from cdnctl.datapath import abi, kernel, toolchain
from cdnctl.datapath.kernel import Map
from cdnctl.paths import bpf_dir

_TEXT = """
#include <linux/bpf.h>
%(abi)s
struct answers { __u64 value[%(count)d]; };
BPF_ARRAY(answers, struct answers, 1);
int probe(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct answers *to = answers.lookup(&zero);
	if (!to)
		return 0;
%(stores)s
	return 2;
}
"""


def main() -> None:
    """Read the questions, print the answers: expressions with their values."""
    asked = json.load(sys.stdin)
    expressions = [*asked["constants"]]
    for name, fields in asked["structs"].items():
        expressions.append(f"sizeof(struct {name})")
        for field in fields:
            expressions.append(f"__builtin_offsetof(struct {name}, {field})")
            expressions.append(f"sizeof(((struct {name} *)0)->{field})")
    stores = "\n".join(f"\tto->value[{n}] = {text};" for n, text in enumerate(expressions))
    header = toolchain.join(bpf_dir() / "abi.h")
    text = _TEXT % {"abi": header, "count": len(expressions), "stores": stores}
    module, program = toolchain.compile_xdp(text, "probe")
    kernel.test_run(program, bytes(64))
    raw = Map(module["answers"].get_fd()).get(abi.key(0)) or b""
    values = struct.unpack(f"{len(expressions)}Q", raw)
    json.dump(dict(zip(expressions, values, strict=True)), sys.stdout)


if __name__ == "__main__":
    main()
