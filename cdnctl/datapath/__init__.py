"""The only code that touches BCC, libbpf and netlink: from C text to a running, readable data path.

toolchain   kernel headers of some kind, one joined text, BCC
loading     compiled programs into the kernel, for frames in several buffers
build       the short-lived child that compiles, loads and pins; it takes the compiler with it
program     are the pinned programs the ones wanted? else build them
kernel      the BPF system calls, through libbpf; `said` hears what that says
opening     a loaded program by its number, or by its pin where the kernel's list is closed
abi         mirrors of bpf/abi.h
tables      the pinned maps of an edge, typed: with choice, clients, counters, flows
blocks      the block list's tables in the kernel; `hints` says where to look at all
sweep       the rounds of the collector of dead slots
attach      interfaces: native or generic XDP, never in place of somebody else's
links       what interfaces and VLANs are, for the tables
neighbours  next hops, always resolved; `keeper` asserts both again and again
network     forwarding, that redirected packets need
perf        the reader of samples and events
tracer      a packet's way through the same programs, noted; nothing is written. packets makes the packet
panic       disarm, bypass and detach without an agent
inspect     the box as `cdnctl doctor` judges it (box), with ethtool, routes and the peers of veths
"""
