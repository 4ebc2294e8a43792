/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The bench's own programs, on the pinned tables of the edge that is measured. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "../../../bpf/abi.h"
#include "../../../bpf/maps.h"
#include "shim.h"
#include "reference.h"
