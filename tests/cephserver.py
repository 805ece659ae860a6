"""Ceph's S3 server for tests, as a second opinion: one monitor, one store in memory, one gateway.

Nothing of it is installed by pip: `apt install ceph-mon ceph-osd radosgw`. It takes some 15 s to start.
`ceph_server` is a fixture; the conftest.py of a directory whose tests want it imports it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING, Self

import pytest
from s3server import ACCESS_KEY, SECRET_KEY, free_port

from flightserver.storage.s3_access import S3Access, S3Credentials, S3Location, S3Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_START_SECONDS = 120.0

_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = {monitors}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {home}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 1073741824
mon allow pool size one = true
mon data = {home}/mon
mon data avail crit = 1
osd data = {home}/osd
rgw data = {home}/rgw
run dir = {home}
log file = {home}/$name.log
admin socket =
"""


class CephServer:
    """A gateway of Ceph, ready when made.

    Attributes:
        endpoint: Its URL.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._processes: list[subprocess.Popen[bytes]] = []
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        try:
            self._start_monitor()
            self._start_store()
            self._start_gateway(port)
        except BaseException:
            self.stop()
            raise

    def access(self, bucket: str) -> S3Access:
        """How an S3 bucket is reached."""
        location = S3Location(bucket, endpoint=self.endpoint)
        return S3Access(location, S3Credentials(ACCESS_KEY, SECRET_KEY), S3Timeouts())

    def stop(self) -> None:
        """Kill it; it keeps nothing."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _start_monitor(self) -> None:
        home, fsid = self._home, str(uuid.uuid4())
        for directory in ("mon", "osd", "rgw"):
            (home / directory).mkdir(parents=True)
        monitors = f"[v2:127.0.0.1:{free_port()},v1:127.0.0.1:{free_port()}]"
        configuration = _CONFIGURATION.format(fsid=fsid, monitors=monitors, home=home)
        (home / "ceph.conf").write_text(configuration, encoding="utf-8")
        self._key("mon.", "--create-keyring", mon="allow *")
        self._key("client.admin", mon="allow *", osd="allow *")
        self._key("osd.0", mon="allow profile osd", osd="allow *")
        # The gateway looks for its key there whatever the configuration says.
        shutil.copy(home / "keyring", home / "rgw" / "keyring")
        self._run("monmaptool", "--create", "--addv", "a", monitors, "--fsid", fsid, str(home / "monmap"))
        monmap, keyring = str(home / "monmap"), str(home / "keyring")
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._spawn("ceph-mon", "-i", "a")
        self._run("ceph", "auth", "import", "-i", keyring)

    def _start_store(self) -> None:
        identity = str(uuid.uuid4())
        self._run("ceph", "osd", "new", identity, "0")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identity)
        self._spawn("ceph-osd", "-i", "0")

    def _start_gateway(self, port: int) -> None:
        self._spawn(
            "radosgw", "-n", "client.admin", "--rgw-frontends", f"beast endpoint=127.0.0.1:{port} tcp_nodelay=1"
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, "radosgw doesn't answer"
            assert all(process.poll() is None for process in self._processes), "a part of Ceph didn't start"
            time.sleep(0.2)
        keys = (f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")
        self._run("radosgw-admin", "user", "create", "--uid=test", "--display-name=test", *keys)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=1).close()  # noqa: S310  # our own server
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def _key(self, name: str, *options: str, **rights: str) -> None:
        capabilities = [word for what, right in rights.items() for word in ("--cap", what, right)]
        self._run("ceph-authtool", *options, str(self._home / "keyring"), "--gen-key", "-n", name, *capabilities)

    def _configured(self, program: str) -> list[str]:
        tools = {"ceph-authtool", "monmaptool"}
        return [program] if program in tools else [program, "-c", str(self._home / "ceph.conf")]

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._configured(program), *arguments]
        done = subprocess.run(command, capture_output=True, check=False, timeout=_START_SECONDS)
        assert done.returncode == 0, f"{program} failed: {done.stderr.decode(errors='replace')[-2000:]}"

    def _spawn(self, program: str, *arguments: str) -> None:
        command = [*self._configured(program), *arguments, "-f"]
        quiet = subprocess.DEVNULL
        self._processes.append(subprocess.Popen(command, stdout=quiet, stderr=quiet, stdin=quiet))


@pytest.fixture(scope="session")
def ceph_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephServer]:
    """One for all tests; tests that want it are skipped where it isn't installed."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        message = f"no {', '.join(missing)}: apt install ceph-mon ceph-osd radosgw"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with CephServer(tmp_path_factory.mktemp("ceph")) as server:
        yield server
