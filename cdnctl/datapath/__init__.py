"""The only code that touches BCC, libbpf and netlink: from C text to a running, readable data path.

toolchain   kernel headers of some kind, one joined text, BCC
build       the short-lived child that compiles, loads and pins; it takes the compiler with it
program     is the pinned program the one wanted? else build it
kernel      the BPF system calls, through libbpf
abi         mirrors of bpf/abi.h
tables      the pinned maps of an edge, typed
blocks      the block list's tables in the kernel
attach      interfaces: native or generic XDP, never in place of somebody else's
network     forwarding and neighbours that redirected packets need
perf        the reader of samples and events
panic       disarm, bypass and detach without an agent
"""
