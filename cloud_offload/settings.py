"""What an endpoint is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edge_sdk.errors import InputError
from edge_sdk.wire.limits import Limits

__all__ = ["ServeSettings", "VersionPolicy"]


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which versions of a model are loaded.

    Attributes:
        latest: so many of the highest; None for all.
        only: these alone; None where `latest` decides.
    """

    latest: int | None = 1
    only: tuple[int, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> VersionPolicy:
        """From "all", "latest:2" or "1,3".

        Raises:
            InputError: none of these.
        """
        if text == "all":
            return cls(latest=None)
        head, _, number = text.partition(":")
        numbers = (number,) if head == "latest" else tuple(text.split(","))
        # int() would also take digits of other scripts, signs and underscores.
        if not all(n.isascii() and n.isdigit() and 0 < len(n) < 10 and int(n) > 0 for n in numbers):
            raise InputError(f"versions {text!r}: expected all, latest:N or numbers with commas between")
        if head == "latest":
            return cls(latest=int(number))
        return cls(None, tuple(int(n) for n in numbers))

    def choose(self, versions: tuple[int, ...]) -> tuple[int, ...]:
        """Those of `versions` (rising) that are to be loaded."""
        if self.only is not None:
            return tuple(v for v in versions if v in self.only)
        return versions if self.latest is None else versions[-self.latest :]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """How an endpoint runs.

    Attributes:
        repository: folder of models.
        host: address to listen on; this machine alone unless told.
        port: 0 for any free one.
        policy: which versions of a model are loaded.
        workers: processes that serve; all limits below are of each of them.
        threads: requests that are computed at once, over all models.
        queue: requests of one model that may wait or be computed; more are told 503.
        per_client: requests of one client that may be in progress; more are told 429.
        tails: tails made on demand that are kept loaded.
        max_pending_mb: MiB of bodies held at once, over all clients; more are told 503.
        upload_mb: MiB that unfinished uploads and one-file bundles in the repository may take; 0 for no uploads.
        body_timeout_s: how long a client may take to send a body.
        max_batch: rows that are computed together; 1 for no batching.
        batch_delay_ms: how long the first request of a batch waits for others.
        plan_budget_s: how long loading may measure.
        watch_s: how often the repository is looked at for changes; 0 for never.
        drain_s: how long requests in progress are waited for at the end.
        token_file: file of accepted bearer tokens, one a line; None where no token is asked for.
        tls_cert, tls_key, client_ca: files for TLS; clients must show a certificate of `client_ca` where given.
        limits: of bodies.
    """

    repository: Path
    host: str = "127.0.0.1"
    port: int = 8000
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    workers: int = 1
    threads: int = 2
    queue: int = 64
    per_client: int = 64
    tails: int = 8
    max_pending_mb: int = 1024
    upload_mb: int = 0
    body_timeout_s: float = 60.0
    max_batch: int = 16
    batch_delay_ms: float = 0.0
    plan_budget_s: float = 0.0
    watch_s: float = 0.0
    drain_s: float = 30.0
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    limits: Limits = field(default_factory=Limits)
