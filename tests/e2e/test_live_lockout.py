"""Nobody locks an operator out: with a real sshd on the edge, under sudo, in tmux, with two operators.

The sshd is the lab's own: its keys, its configuration, in the edge's namespace.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import after, cdnctl, command_line, run, sleep_until, wait_for

from cdnctl.lab import netns
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import end, environment, start

SSHD = "/usr/sbin/sshd"
HOST, PORT = "192.0.2.1", 2222
ALICE, BOB, ELSEWHERE, STRANGER = "10.1.0.5", "10.2.0.6", "10.3.0.7", "10.1.77.1"
"""Where operators come from, and one who is none."""
TOGETHER = "10.1.0.0/16"

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, (SSHD, "ssh", "ssh-keygen", "sudo", "tmux"))),
    reason="needs openssh-server, sudo and tmux",
)


class Sshd:
    """A daemon on the edge, and how to come in."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.home = lab, lab.directory / "sshd"
        self.home.mkdir(mode=0o700, exist_ok=True)
        for name in ("host", "user"):
            key = self.home / name
            key.unlink(missing_ok=True)
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        config = self.home / "sshd_config"
        config.write_text(
            f"ListenAddress {HOST}:{PORT}\nHostKey {self.home}/host\n"
            f"AuthorizedKeysFile {self.home}/user.pub\nPidFile none\n"
            "UsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\n"
        )
        self.process = lab.run_beside([SSHD, "-D", "-e", "-f", str(config)], lab.topology.edge, "sshd")

    def into(self, source: str, *words: str) -> list[str]:
        """The command that runs `words` in a session from that address."""
        options = [
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ]
        options += ["-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=1", "-i", str(self.home / "user")]
        inside = ["nsenter", f"--net={netns.path(self.lab.topology.clients)}"]
        line = " ".join(map(shlex.quote, words))
        return [*inside, "ssh", "-F", "none", "-b", source, "-p", str(PORT), *options, f"root@{HOST}", line]

    def run(self, source: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it there, and wait for it."""
        return subprocess.run(
            self.into(source, *words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    @contextlib.contextmanager
    def session(self, source: str, *words: str) -> Iterator[None]:
        """Somebody is logged in from there meanwhile."""
        process = start(self.into(source, *(words or ("sleep", "60"))))
        try:
            wait_for(f"a session from {source}", 10, lambda: source in self.peers())
            yield
        finally:
            end(process)
            wait_for(f"no session from {source}", 10, lambda: source not in self.peers())

    def peers(self) -> str:
        """Who is connected, by iproute2's word."""
        with netns.entered(self.lab.topology.edge):
            return subprocess.run(
                ["ss", "-Htn", "state", "established", f"( sport = :{PORT} )"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout

    def cdnctl(self, *words: str) -> list[str]:
        """The command line, for a shell that knows nothing of the tests' environment."""
        wanted = environment(self.lab.environment)
        kept = [f"{name}={wanted[name]}" for name in ("PYTHONPATH", "CDNCTL_STATE_DIR") if name in wanted]
        return ["env", *kept, sys.executable, "-m", "cdnctl", *words, "--edge", self.lab.name]


@pytest.fixture(scope="module")
def sshd(lab: Lab) -> Iterator[Sshd]:
    made = not (needed := Path("/run/sshd")).exists()
    needed.mkdir(mode=0o755, exist_ok=True)
    try:
        daemon = Sshd(lab)
        wait_for("sshd takes sessions", 10, lambda: daemon.run(ALICE, "true").returncode == 0, every_s=0.2)
        yield daemon
        end(daemon.process)
    finally:
        if made:
            with contextlib.suppress(OSError):
                needed.rmdir()


def assert_refused(done: subprocess.CompletedProcess[str], prefix: str) -> None:
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert f"refused: {prefix}" in done.stderr
    assert "an operator logged in over SSH" in done.stderr


def test_an_operator_cannot_block_the_own_way_in(sshd: Sshd) -> None:
    assert_refused(sshd.run(ALICE, *sshd.cdnctl("block", ALICE)), ALICE)
    assert_refused(sshd.run(ALICE, *sshd.cdnctl("block", TOGETHER)), TOGETHER)


def test_nor_under_sudo_which_forgets_the_environment(sshd: Sshd) -> None:
    done = sshd.run(ALICE, "sudo", "-n", "sh", "-c", "echo ${SSH_CONNECTION-forgotten}")
    assert done.stdout == "forgotten\n", done.stderr
    assert_refused(sshd.run(ALICE, "sudo", "-n", *sshd.cdnctl("block", ALICE)), ALICE)


@pytest.mark.soak
def test_nor_another_operators(lab: Lab, sshd: Sshd) -> None:
    with sshd.session(BOB):
        assert_refused(sshd.run(ALICE, *sshd.cdnctl("block", BOB)), BOB)
        assert_refused(run(lab, command_line("block", "10.2.0.0/24", "--edge", lab.name)), "10.2.0.0/24")
    done = sshd.run(ALICE, *sshd.cdnctl("block", BOB, "--for", "1m"))
    assert done.returncode == 0, "who has gone is nobody's operator any more"
    assert "not you" in sshd.run(ALICE, *sshd.cdnctl("block", STRANGER, "--dry-run")).stdout
    cdnctl(lab, "unblock", BOB)


@pytest.mark.soak
def test_nor_in_a_tmux_that_was_begun_from_elsewhere(lab: Lab, sshd: Sshd, tmp_path: Path) -> None:
    socket = ["tmux", "-f", "/dev/null", "-S", str(sshd.home / "tmux")]
    assert (
        sshd.run(ELSEWHERE, *socket, "new-session", "-d", "-s", "op", "-x", "200", "-y", "50").returncode == 0
    )
    try:
        attach = ["env", "TERM=xterm", *socket, "attach", "-t", "op"]
        with attached(sshd, ALICE, attach):
            said = tmp_path / "said"
            line = " ".join(map(shlex.quote, sshd.cdnctl("block", ALICE)))
            typed = f"echo $SSH_CONNECTION > {said}; {line} >> {said} 2>&1; echo done >> {said}"
            subprocess.run([*socket, "send-keys", "-t", "op", typed, "Enter"], check=True)
            text = wait_for(
                "an answer", 20, lambda: said.exists() and "done\n" in (t := said.read_text()) and t
            )
        assert text.startswith(f"{ELSEWHERE} "), text
        assert f"refused: {ALICE}" in text
        assert "an operator logged in over SSH" in text
    finally:
        subprocess.run([*socket, "kill-server"], capture_output=True, check=False)


@contextlib.contextmanager
def attached(sshd: Sshd, source: str, words: list[str]) -> Iterator[None]:
    """A session with a terminal, as `ssh -tt` makes one."""
    command = sshd.into(source, *words)
    command.insert(command.index("ssh") + 1, "-tt")
    process = start(command, stdin=subprocess.PIPE)
    try:
        wait_for(f"a session from {source}", 10, lambda: source in sshd.peers())
        yield
    finally:
        end(process)


@pytest.mark.soak
def test_a_change_that_cuts_the_operators_own_session_reverts(lab: Lab, sshd: Sshd) -> None:
    """The guard does not know an operator who has just gone; the confirmation does not need to."""
    answer = cdnctl(lab, "block", ALICE, "--confirm", "3")
    assert sshd.run(ALICE, "true").returncode != 0, "nobody comes in from there, to confirm or to revert"
    sleep_until(after(answer["applied_monotonic_ns"], 3.9))
    assert sshd.run(ALICE, "true").returncode == 0
