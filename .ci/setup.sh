#!/usr/bin/env bash
# Installs what is missing on Debian or Ubuntu, and makes .venv.
#   setup.sh edge   what an edge runs with, and no more
#   setup.sh        besides, what the lab and developers need
#   setup.sh test   besides, what only the tests ask; `bench`: what is measured beside ours
# Run again it only looks; it installs again when pyproject.toml or this file has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/.set-up
system_python=/usr/bin/python3 # the one that sees the distribution's BCC
purpose=${1:-lab}
case $purpose in
edge | lab | test | bench) ;;
*)
	echo "setup: '$purpose' is no purpose: edge, lab, test or bench" >&2
	exit 2
	;;
esac

# What the stamp holds: the text that decides what is installed (contents, not times: git sets those).
fingerprint() {
	sha256sum pyproject.toml .ci/setup.sh | sha256sum
}

# What an edge runs with.
missing_on_edge() {
	[[ -e /usr/lib/python3/dist-packages/bcc/__init__.py ]] || echo python3-bpfcc # compiles and loads the data path
	compgen -G '/usr/lib/*/libbpf.so.1' >/dev/null || echo libbpf1    # pins and test runs
	[[ -e /usr/include/linux/bpf.h ]] || echo linux-libc-dev          # headers where the kernel's are absent
	[[ -x $system_python ]] && "$system_python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
	command -v ip >/dev/null || echo iproute2 # `cdnctl report` asks it
}

# What the lab, its edge and the tests of both need.
missing_in_lab() {
	command -v ethtool >/dev/null || echo ethtool   # the lab turns checksum offload off
	command -v nginx >/dev/null || echo nginx-light # the lab's CDNs
	command -v nft >/dev/null || echo nftables      # a firewall before the lab's clients
	command -v tmux >/dev/null || echo tmux         # tests of the console in a real terminal
	command -v asciinema >/dev/null || echo asciinema # reads our casts in the tests
	command -v strace >/dev/null || echo strace     # tests of what a save leaves that is interrupted
	[[ -x /usr/sbin/sshd ]] || echo openssh-server # tests of the lock-out guard: a daemon of their own
	command -v sudo >/dev/null || echo sudo         # the same
	command -v ps >/dev/null || echo procps
	command -v openssl >/dev/null || echo openssl # tests of probes: a TLS server with a certificate of its own
	command -v systemd-analyze >/dev/null || echo systemd # tests of the unit; nothing of it is started
}

# What looks at ours in the tests; `setup.sh test` asks for it.
missing_witnesses() {
	command -v promtool >/dev/null || echo prometheus # reads our metrics, plays our alert rules; 7 s to install
}

# What is measured beside ours; `setup.sh bench` asks for it.
missing_peers() {
	command -v haproxy >/dev/null || echo haproxy
	[[ -e /usr/lib/nginx/modules/ngx_stream_module.so ]] || echo libnginx-mod-stream
	command -v wrk >/dev/null || echo wrk # the load
	command -v xdp-filter >/dev/null || echo xdp-tools
}

install_packages() {
	local packages=("$@")
	if ! command -v apt-get >/dev/null; then
		echo "setup: missing: ${packages[*]} (Debian's names); this is not Debian or Ubuntu: install them by hand" >&2
		exit 1
	fi
	if ((EUID != 0)); then
		echo "setup: packages are missing. Run this line, then the same again:" >&2
		echo "  sudo apt-get install -y --no-install-recommends ${packages[*]}" >&2
		exit 1
	fi
	echo "setup: installing ${packages[*]}"
	without_services apt_install "${packages[@]}"
}

apt_install() {
	export DEBIAN_FRONTEND=noninteractive
	apt-get install -qq -y --no-install-recommends "$@" >/dev/null && return
	apt-get update -qq # only now: lists may be absent or old
	apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

# Debian starts what it installs; the lab wants nginx's program, not its service on port 80.
without_services() {
	local policy=/usr/sbin/policy-rc.d status=0
	if [[ -e $policy ]]; then # somebody's own policy stands
		"$@"
		return
	fi
	trap "rm -f $policy" EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	"$@" </dev/null || status=$?
	rm -f "$policy"
	trap - EXIT
	return "$status"
}

make_environment() {
	local extras='[dev]'
	[[ $purpose != edge ]] || extras=
	"$system_python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
		echo "setup: $system_python is $("$system_python" -V); 3.11 or newer is needed (Debian 12, Ubuntu 24.04)" >&2
		exit 1
	}
	echo "setup: setting up .venv"
	# Kept when it is there and sound: pip then only adds what changed.
	.venv/bin/python -c 'import pip, bcc' 2>/dev/null ||
		"$system_python" -m venv --clear --system-site-packages .venv
	.venv/bin/python -m pip install -qq --disable-pip-version-check --editable ".$extras"
}

# Who works in several checkouts may have linked one .venv into all: pip would have it run this one's code.
refuse_linked() {
	echo "setup: .venv is a link to $(readlink -f .venv), another checkout's: it is left alone." >&2
	echo "  Set that one up there (make setup), or remove the link for a .venv of this checkout's own." >&2
	exit 1
}

# Developers' .venv serves an edge, too; an edge's is not enough for developers.
is_set_up() {
	[[ -x .venv/bin/cdnctl && -e $stamp ]] || return
	local made
	made=$(<"$stamp")
	[[ $made == "$(fingerprint)" || ($purpose == edge && $made == "edge $(fingerprint)") ]]
}

mapfile -t missing < <(
	missing_on_edge
	[[ $purpose == edge ]] || missing_in_lab
	[[ $purpose != test ]] || missing_witnesses
	[[ $purpose != bench ]] || missing_peers
)
if ((${#missing[@]})); then
	install_packages "${missing[@]}"
fi
if [[ -L .venv ]]; then
	[[ -x .venv/bin/cdnctl ]] || refuse_linked
	echo "setup: .venv is a link, and left as it is" >&2
elif ! is_set_up; then
	rm -f "$stamp"
	make_environment
	[[ $purpose != edge ]] || printf 'edge ' >"$stamp"
	fingerprint >>"$stamp"
fi
