"""A model with endpoints and nothing pinned: the planner chooses among staying, splitting and offloading, and follows.

local plan ── measured on this device
endpoints ─── link probed, speed told
ways ──────── all cuts × codecs, predicted ─▶ those that are ever best ─▶ the best now are made, timed, and planned
session ───── AdaptiveRunner ◀── LinkGuide: plans anew after each answer; a way is prepared before it is switched to
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from edge_sdk.engines.base import Engine, LoadOptions, Runner
from edge_sdk.errors import EdgeError, SessionClosed
from edge_sdk.events import Events
from edge_sdk.offload.adaptive import AdaptiveRunner
from edge_sdk.offloading.guide import LOCAL, LinkGuide, key_of
from edge_sdk.offloading.places import Places
from edge_sdk.offloading.preparing import Prepared, Preparing
from edge_sdk.offloading.table import WaysTable
from edge_sdk.offloading.timing import timed_ms
from edge_sdk.offloading.trial import asked, compared
from edge_sdk.planner.following import Switch
from edge_sdk.planner.plans import Plan
from edge_sdk.planner.rates import rates_for
from edge_sdk.planner.remote import RemoteWay, parts_ms

if TYPE_CHECKING:
    from edge_sdk.device.facts import Device
    from edge_sdk.offloading.asked import Offload
    from edge_sdk.planner import Choice, Wish

__all__ = ["Automatic"]

_log = logging.getLogger(__name__)

MOST_TRIED = 4
CLOSE = 1.5
"""A way that is predicted to cost more than this times the best is not made at once."""
TELLING_HEAD_MS = 0.5
"""Shorter heads say nothing of how fast the device is now."""
LOOK_S, LEARN_S = 3.0, 10.0


class Automatic:
    """Plans one model with endpoints, and opens what the plan names.

    Args:
        offload: what `load` was asked for.
        name: of the model.
        choice: how it runs on this device alone.
        whole: runs that, loaded; closed with the runner that `open` gives.
        device: this machine.
        wish: what to minimise and hold.
        engine, options: that heads and local tails are loaded by and with.
        wrap: puts around a runner of the variant's file what a session has around it.
        samples: requests as the chosen variant's file takes them.
        events: of the session, told of each switch.
        follows: whether another way may be gone later; what is carried from request to request would be lost.
    """

    def __init__(
        self,
        offload: Offload,
        name: str,
        choice: Choice,
        whole: Runner,
        device: Device,
        wish: Wish,
        engine: Engine,
        options: LoadOptions,
        wrap: Callable[[Runner], Runner],
        samples: Sequence[Mapping[str, Any]],
        events: Events,
        follows: bool = True,
    ) -> None:
        self._offload, self._name, self._whole, self._events = offload, name, whole, events
        self._follows = follows
        figures = choice.plan.figures
        known_ms = figures.latency_ms if figures is not None and not wish.budget_s else None
        local_ms = timed_ms(whole, offload.data) if known_ms is None else known_ms
        rates, self._timed = rates_for(device), known_ms is None
        self._table = WaysTable(offload, wish, choice.variant, choice.plan, local_ms, rates, self._timed)
        file_runner = _innermost(whole) if follows else None  # else it is closed where another way is chosen
        self._preparing = Preparing(
            offload, name, choice.variant, engine, options, wrap, samples, local_ms, file_runner
        )
        whole_there = offload.model or PurePath(name).stem
        self._places = Places(offload, whole_there, choice.variant.name, local_ms, self._asking_ms)
        self._runners: dict[str, Runner] = {}
        self._made: dict[str, Prepared] = {}
        self._plain: set[str] = set()
        self._asked: list[str] = []

    def open(self) -> tuple[Runner, Plan]:
        """The runner of the session, and its plan. Where no endpoint answers all of it runs here until one does, also
        where the caller would rather have it elsewhere."""
        began_s, table = time.perf_counter(), self._table
        self._places.look(LOOK_S)
        self._try_strangers()
        few = table.ever_best(self._places.now())
        self._try_best(few)
        if self._timed and self._places.now():
            # Heads were timed since: a device that grew slower meanwhile has done so for all ways.
            table.timed_again(timed_ms(self._whole, self._offload.data))
        first = table.best(self._places.now(), self._runners)
        plan = table.planned(first, self._places.now(), self._places.failures)
        spent_ms = (time.perf_counter() - began_s) * 1e3
        self._plan = first, msgspec.structs.replace(plan, planning_ms=round(plan.planning_ms + spent_ms, 3))
        for made in self._made.values():
            made.split.forget_figures()  # those asked so far were not the session's
        prepared = {LOCAL: self._whole, **self._runners}
        if self._follows:
            return self._following(first, few, prepared), self._plan[1]
        chosen = prepared.pop(first)
        for runner in prepared.values():
            runner.close()
        return chosen, self._plan[1]

    def _following(self, first: str, few: set[str], prepared: Mapping[str, Runner]) -> AdaptiveRunner:
        """Goes the way `first`, and later whichever of `few` is best then."""
        table = self._table
        keys = few | self._runners.keys()
        guide = LinkGuide(
            lambda: {key: table.ways[key] for key in keys},
            first,
            table.local_ms if "local" in table.kinds else None,
            self._places.now,
            table.pricing,
            self._slowdown,
            lambda key: self._made[key].split.was_remote(),
            self._load,
            self._tell,
        )
        runner = AdaptiveRunner(first, prepared, frozenset({LOCAL}), guide)
        runner.plan_now = lambda: self._plan_of(runner.key)
        if self._offload.endpoints:
            guide.watch(runner, self._places.refresh)
        return runner

    def _plan_of(self, key: str) -> Plan:
        """The plan with this way chosen, over the links as they are at the first call since the switch."""
        if self._plan[0] != key:
            made = self._table.planned(key, self._places.now(), self._places.failures)
            self._plan = key, msgspec.structs.replace(made, planning_ms=self._plan[1].planning_ms)
        return self._plan[1]

    def _try_strangers(self) -> None:
        """Asks the whole model, by its own name, where no endpoint tells anything of itself and the input may go there:
        what that takes is all that will be known of them, and its answers tell whether it is this model."""
        raw = (way for way in self._table.ways.values() if way.kind == "offload")
        way = next((way for way in raw if (way.codec, way.coding) == ("none", "none")), None)
        if way is None or not self._places.all_strangers():
            return
        key = key_of(way)
        self._plain.add(key)
        try:
            runner = self._load(key)
        except EdgeError as error:
            _log.info("%s: %s: %s", self._name, key, error)
            return
        made = self._made[key]
        if why := compared(made, self._preparing.requests(made.split)):
            self._places.set_aside(why)
            runner.close()
            return
        self._runners[key] = runner

    def _try_best(self, keys: set[str]) -> None:
        """Makes and times the ways that are predicted to be best, until the best of all is one that was made."""
        open_keys = keys - self._runners.keys()
        for _ in range(MOST_TRIED):
            places = self._places.now()
            costs = self._table.costs(open_keys, places)
            if not costs:
                return
            best = min(costs, key=lambda key: costs[key])
            known = self._table.costs(self._runners, places).values()
            if costs[best] > min([self._table.local_cost(), *known]) * CLOSE:
                return
            open_keys.discard(best)
            try:
                self._runners[best] = self._load(best)
            except EdgeError as error:
                _log.info("%s: %s: %s", self._name, best, error)
                continue
            made = self._made[best]
            if not self._asked and asked(made, self._preparing.requests(made.split), self._places.now()):
                self._asked.append(best)

    def _load(self, key: str) -> Runner:
        """Prepares a way; from then on the table has it as it was measured."""
        way = self._table.ways[key]
        expected_ms = min((sum(parts_ms(way, place)) for place in self._places.now()), default=float("inf"))
        made = self._prepared(way, expected_ms if expected_ms < float("inf") else 0.0)
        self._places.learn(made.way, made.tail, LEARN_S)
        self._made[key] = made
        self._table.measured(made.way, made.computed_ms)
        return made.runner

    def _prepared(self, way: RemoteWay, expected_ms: float) -> Prepared:
        plain = key_of(way) in self._plain
        for key, made in self._made.items():
            if made.way.tail_key == way.tail_key and not plain and key not in self._plain:
                with contextlib.suppress(SessionClosed):  # those put away are no more to be shared
                    return self._preparing.repacked(made, way, expected_ms)
        return self._preparing(way, expected_ms, plain)

    def _asking_ms(self) -> float | None:
        """What a request takes on this device beside head and packing, as the way shows that was gone last; None before
        any was."""
        for key in reversed(self._asked):
            if (found_ms := self._made[key].asking_ms()) is not None:
                return found_ms
        return None

    def _slowdown(self, key: str) -> float:
        """How much longer the heads of a way take now than when they were timed."""
        made = self._made.get(key)
        now_ms = None if made is None else made.split.head_times.percentile_ms(0.5)
        if made is None or now_ms is None or made.computed_ms < TELLING_HEAD_MS:
            return 1.0
        return now_ms / made.computed_ms

    def _tell(self, key: str, switch: Switch[str] | None) -> None:
        told = "" if switch is None else f": {switch.cost:.3g} instead of {switch.instead_of:.3g}"
        links = "; ".join(
            f"{place.endpoint} {place.link.up_mbps or 0:.3g} Mbit/s, {place.link.rtt_ms:.3g} ms"
            for place in self._places.now()
        )
        if key != LOCAL:
            self._asked = [*self._asked[-1:], key]
        self._events.tell("switched", f"goes {key} from now on{told} ({links or 'no endpoint answers'})")


def _innermost(runner: Runner) -> Runner:
    """What runs the model file itself."""
    while runner.inner is not None:
        runner = runner.inner
    return runner
