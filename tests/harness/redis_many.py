"""Several Redis servers at work together: a primary behind Sentinels, and a cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .certificate import Certificate
from .ports import HOST, free_port
from .redis_server import RedisServer, cli_program, run_redis
from .waiting import wait_until

__all__ = ["Cluster", "Watched", "run_cluster", "run_sentinels"]

SETTLED_WITHIN_S = 40.0
# Milliseconds without an answer after which a server counts as down. Not less: a busy machine
# must not be taken for a dead one.
DOWN_AFTER_MS = 2000


@dataclass(frozen=True, slots=True)
class Watched:
    """A primary, its replica, and three Sentinels."""

    primary: RedisServer
    replica: RedisServer
    sentinels: tuple[RedisServer, ...]
    certificate: Certificate | None = None

    @property
    def url(self) -> str:
        """The address as an application would name it."""
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return _url("sentinel", f"{hosts}/mine/0", self.certificate)

    def wait_failover(self) -> None:
        """Wait until the replica is the primary, and all Sentinels say so."""
        wait_until(
            lambda: all(
                self._primary_port(sentinel) == self.replica.port for sentinel in self.sentinels
            ),
            within_s=SETTLED_WITHIN_S,
            what="a failover",
        )

    @staticmethod
    def _primary_port(sentinel: RedisServer) -> int:
        return int(sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mine")[1])


@contextmanager
def run_sentinels(certificate: Certificate | None = None) -> Iterator[Watched]:
    """Run one primary, one replica and three Sentinels that know each other.

    With a certificate all of them speak TLS, and nothing else.
    """
    with ExitStack() as stack:
        primary = stack.enter_context(run_redis(aof=True, certificate=certificate))
        replica = stack.enter_context(
            run_redis(aof=True, replica_of=primary, certificate=certificate)
        )
        sentinels = []
        for _ in range(3):
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="sentinel-")))
            settings = folder / "sentinel.conf"
            settings.write_text(
                f"sentinel monitor mine {HOST} {primary.port} 2\n"
                f"sentinel down-after-milliseconds mine {DOWN_AFTER_MS}\n"
                "sentinel failover-timeout mine 10000\n"
            )
            sentinel = RedisServer(
                folder, ["--sentinel"], password=None, settings=settings, certificate=certificate
            )
            stack.callback(sentinel.kill)
            sentinel.start()
            sentinels.append(sentinel)
        watched = Watched(primary, replica, tuple(sentinels), certificate)
        wait_until(
            lambda: all(_knows_all(sentinel) for sentinel in sentinels),
            within_s=SETTLED_WITHIN_S,
            what="Sentinels that know each other and the replica",
        )
        yield watched


def _knows_all(sentinel: RedisServer) -> bool:
    answer = sentinel.ask("SENTINEL", "MASTER", "mine")
    state = (
        answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
    )
    return int(state["num-other-sentinels"]) == 2 and int(state["num-slaves"]) == 1


@dataclass(frozen=True, slots=True)
class Cluster:
    """Six nodes: three primaries, each with a replica."""

    nodes: tuple[RedisServer, ...]
    certificate: Certificate | None = None

    @property
    def url(self) -> str:
        """The address as an application would name it; it names some of the nodes."""
        hosts = ",".join(f"{HOST}:{node.port}" for node in self.nodes[:3])
        return _url("cluster", hosts, self.certificate)

    def home_of(self, channel: str) -> RedisServer:
        """The primary that has a channel."""
        running = next(node for node in self.nodes if node.running)
        slot = running.ask("CLUSTER", "KEYSLOT", channel)
        for first, last, (_, port, *_), *_ in running.ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"no node has the slot of {channel}")

    def move(self, channel: str) -> None:
        """Move the slot of a channel, with its keys, to another primary."""
        source = self.home_of(channel)
        target = next(
            node
            for node in self.nodes
            if node.port != source.port and node.info("replication")["role"] == "master"
        )
        slot = str(source.ask("CLUSTER", "KEYSLOT", channel))
        ids = {node.port: str(node.ask("CLUSTER", "MYID")) for node in (source, target)}
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, "100")
        if keys:
            source.ask("MIGRATE", HOST, str(target.port), "", "0", "5000", "KEYS", *keys)
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])

    def wait_settled(self) -> None:
        """Wait until all running nodes say that all slots are served."""
        wait_until(
            lambda: all(_is_ok(node) for node in self.nodes if node.running),
            within_s=SETTLED_WITHIN_S,
            what="a cluster that serves all slots",
        )


@contextmanager
def run_cluster(certificate: Certificate | None = None) -> Iterator[Cluster]:
    """Run a cluster of three primaries with a replica each, all of them in step.

    With a certificate all of them speak TLS, and nothing else.
    """
    tls = ["--tls", "--cacert", str(certificate.certificate)] if certificate else []
    with ExitStack() as stack:
        nodes = []
        for _ in range(6):
            options = (
                *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
                *("--cluster-node-timeout", str(DOWN_AFTER_MS)),
                *(("--tls-cluster", "yes") if certificate else ()),
            )
            nodes.append(
                stack.enter_context(run_redis(*options, aof=True, certificate=certificate))
            )
        cluster = Cluster(tuple(nodes), certificate)
        subprocess.run(
            [
                *(cli_program(), *tls, "--cluster", "create"),
                *(f"{HOST}:{node.port}" for node in nodes),
                *("--cluster-replicas", "1", "--cluster-yes"),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        cluster.wait_settled()
        wait_until(
            lambda: sum(_replicas_online(node) for node in nodes) == 3,
            within_s=SETTLED_WITHIN_S,
            what="three replicas in step",
        )
        yield cluster


def _url(kind: str, where: str, certificate: Certificate | None) -> str:
    if certificate is None:
        return f"redis+{kind}://{where}"
    return f"rediss+{kind}://{where}?ssl_ca_certs={certificate.certificate}"


def _is_ok(node: RedisServer) -> bool:
    answer = node.ask("CLUSTER", "INFO")
    state = answer["cluster_state"] if isinstance(answer, dict) else str(answer)
    return state == "ok" or "cluster_state:ok" in state


def _replicas_online(node: RedisServer) -> int:
    replication = node.info("replication")
    return sum(
        isinstance(one, dict) and one.get("state") == "online" for one in replication.values()
    )
