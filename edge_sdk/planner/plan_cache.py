"""Plans kept by everything that could change them: device, model, engines and what was asked for."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edge_sdk.errors import StorageError
from edge_sdk.planner.plans import SCHEMA, Plan
from edge_sdk.storage import cache_folder, write_whole

__all__ = ["cached_plan", "keep_plan", "plan_key"]

_log = logging.getLogger(__name__)


def plan_key(parts: Mapping[str, str]) -> str:
    """The key under which a plan is kept; every part that changes gives another."""
    text = "\n".join(f"{name}={parts[name]}" for name in sorted(parts))
    return hashlib.sha256(f"plan {SCHEMA}\n{text}".encode()).hexdigest()[:32]


def _file(key: str) -> Path:
    return cache_folder("plans") / f"{key}.json"


def cached_plan(key: str) -> Plan | None:
    """The plan kept under `key`; None where there is none that can be read."""
    try:
        plan = msgspec.json.decode(_file(key).read_bytes(), type=Plan)
    except (OSError, StorageError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return msgspec.structs.replace(plan, cached=True) if plan.schema == SCHEMA else None


def keep_plan(key: str, plan: Plan) -> None:
    """Keeps a plan. A cache that cannot be written costs the next start some time, never this one its answer."""
    try:
        write_whole(_file(key), msgspec.json.encode(plan))
    except StorageError as error:
        _log.info("plan is not kept: %s", error)
