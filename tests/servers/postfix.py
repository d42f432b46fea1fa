"""Debian's Postfix for tests: an instance of its own, with its own folders, on a port of loopback.

It delivers mail for `example.org` and for `bounces.example.org` into Maildirs, takes
mail for unknown people too, and sends reports about it. Nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

HOST = "127.0.0.1"
MASTER = Path("/usr/lib/postfix/sbin/master")
OWNER, READER = "postfix", "nobody"
PATIENCE = 30.0

_QUEUES = (
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop", "private", "public",
    "saved", "trace",
)  # fmt: skip

_SETTINGS = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.org
mydestination =
alias_maps =
alias_database =
smtpd_relay_restrictions = permit_mynetworks, reject
# Who does not exist is found out after the mail was taken, so that there is something to report.
smtpd_reject_unlisted_recipient = no
smtpd_tls_security_level = none
virtual_mailbox_domains = example.org, bounces.example.org
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = regexp:{folder}/etc/mailboxes
virtual_uid_maps = static:{user}
virtual_gid_maps = static:{group}
virtual_minimum_uid = 1
"""

_MAILBOXES = r"""
/^ada@example\.org$/ ada/
/^no-reply@example\.org$/ reports/
/@bounces\.example\.org$/ reports/
"""

_SERVICES = """
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


def missing() -> str:
    """Why there can be no Postfix here; empty when there can."""
    if not MASTER.exists():
        return "Postfix is not installed: apt-get install postfix"
    return "" if os.geteuid() == 0 else "Postfix is started by root only"


class Server:
    """One instance. `reports` is the Maildir in which what is sent to our senders lands."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="muskox-postfix-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.reports = self._folder / "mail" / "reports"

    def __enter__(self) -> Self:
        try:
            self._write_folders()
            return self._start()
        except BaseException:
            self._stop()
            raise

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _write_folders(self) -> None:
        owner, reader = pwd.getpwnam(OWNER), pwd.getpwnam(READER)
        self._folder.chmod(0o755)
        for name in ("etc", "mail", "data", "queue", "queue/pid", *(f"queue/{queue}" for queue in _QUEUES)):
            (self._folder / name).mkdir()
        for name in ("data", *(f"queue/{queue}" for queue in _QUEUES)):
            (self._folder / name).chmod(0o700)
            os.chown(self._folder / name, owner.pw_uid, -1)
        os.chown(self._folder / "mail", reader.pw_uid, reader.pw_gid)
        etc = self._folder / "etc"
        (etc / "main.cf").write_text(
            _SETTINGS.format(folder=self._folder, user=reader.pw_uid, group=reader.pw_gid)
        )  # fmt: skip
        (etc / "master.cf").write_text(_SERVICES.format(port=self.port))
        (etc / "mailboxes").write_text(_MAILBOXES)

    def _start(self) -> Self:
        self._process = subprocess.Popen(
            [MASTER, "-c", self._folder / "etc", "-d"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - it calls one function of the C library and nothing else
        )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"Postfix did not start:\n{self._log()[-2000:]}")
            time.sleep(0.02)
        return self

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=5) as line:
            return line.recv(3) == b"220"
        return False

    def _log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / "log").read_text()
        return "it has written no log"

    def _stop(self) -> None:
        if self._process is not None:
            # The master ends its own processes, which belong to another user.
            self._process.terminate()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _die_with_parent() -> None:
    """Have the kernel end the master, and it its own, when the test process is gone, however it went."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
