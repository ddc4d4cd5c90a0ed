"""`edge-sdk serve`: an endpoint for devices, Open Inference Protocol v2 over HTTP."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_sdk.cli.numbers import number, whole

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Serves a folder of models: NAME/1/model.onnx (or .tflite), and bundles NAME.edge. Listens on this machine alone unless
--host says otherwise. Logs one JSON object a line on stderr. SIGTERM ends it when requests in progress are answered."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb `serve`."""
    parser = subparsers.add_parser("serve", help="serve models to devices over HTTP", description=_DESCRIPTION)
    parser.add_argument("repository", metavar="REPOSITORY", type=Path, help="folder of models and bundles")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=whole(0, 65535), default=8000, help="0 for any free one (8000)")
    parser.add_argument("--versions", default="latest:1", metavar="WHICH", help="all, latest:N or 1,3 (latest:1)")
    parser.add_argument(
        "--workers", type=whole(1, 256), default=1, metavar="N", help="processes; all limits are of each (1)"
    )
    parser.add_argument("--threads", type=whole(), default=2, metavar="N", help="requests computed at once (2)")
    parser.add_argument("--queue", type=whole(), default=64, metavar="N", help="requests in progress a model (64)")
    parser.add_argument(
        "--per-client", type=whole(), default=64, metavar="N", help="requests in progress a client (64)"
    )
    parser.add_argument("--tails", type=whole(), default=8, metavar="N", help="tails made on demand that stay (8)")
    parser.add_argument("--max-body-mb", type=whole(), default=256, metavar="MB", help="of one body, expanded (256)")
    parser.add_argument("--upload-mb", type=whole(), default=0, metavar="MB", help="take bundles, in all (none)")
    parser.add_argument("--max-pending-mb", type=whole(), default=1024, metavar="MB", help="of all at once (1024)")
    parser.add_argument(
        "--body-timeout", type=number(1e6, zero=False), default=60.0, metavar="S", help="for sending a body (60)"
    )
    parser.add_argument(
        "--max-batch", type=whole(), default=16, metavar="ROWS", help="computed together; 1: never (16)"
    )
    parser.add_argument("--batch-delay-ms", type=number(1e6), default=0.0, metavar="MS", help="wait for a batch (0)")
    parser.add_argument("--watch", type=number(1e6), default=0.0, metavar="S", help="look for changed files; 0: never")
    parser.add_argument(
        "--drain", type=number(1e6), default=30.0, metavar="S", help="wait for requests at the end (30)"
    )
    parser.add_argument("--plan-budget", type=number(1e6), default=0.0, metavar="S", help="measuring while loading (0)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="accepted bearer tokens, one a line")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate with its chain, PEM")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its key, PEM")
    parser.add_argument("--client-ca", type=Path, metavar="FILE", help="clients must show a certificate of this CA")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb. Returns the exit code."""
    from cloud_offload.server import serve
    from cloud_offload.settings import ServeSettings, VersionPolicy
    from cloud_offload.workers import serve_with_workers
    from edge_sdk.wire.limits import Limits

    settings = ServeSettings(
        repository=arguments.repository,
        host=arguments.host,
        port=arguments.port,
        policy=VersionPolicy.parse(arguments.versions),
        workers=arguments.workers,
        threads=arguments.threads,
        queue=arguments.queue,
        per_client=arguments.per_client,
        tails=arguments.tails,
        upload_mb=arguments.upload_mb,
        max_pending_mb=arguments.max_pending_mb,
        body_timeout_s=arguments.body_timeout,
        max_batch=arguments.max_batch,
        batch_delay_ms=arguments.batch_delay_ms,
        plan_budget_s=arguments.plan_budget,
        watch_s=arguments.watch,
        drain_s=arguments.drain,
        token_file=arguments.token_file,
        tls_cert=arguments.tls_cert,
        tls_key=arguments.tls_key,
        client_ca=arguments.client_ca,
        limits=Limits(max_body_bytes=arguments.max_body_mb * 2**20),
    )
    if settings.workers > 1:
        serve_with_workers(settings)
    else:
        serve(settings)
    return 0
