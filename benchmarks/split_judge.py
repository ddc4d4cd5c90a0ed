"""What the product chooses in one cell of the grid of `benchmarks/split.py`, and the best of everything else."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.shaped_link import Shape
from benchmarks.split_models import Model
from benchmarks.split_stage import FASTEST, LOCAL, Asked, Refused, Stage, Way
from edge_sdk.offloading.timing import mean_without_slowest

MOST_WAYS, MOST_AGAIN = 60, 6
"""Ways measured in a cell at most, and of these such as were measured at this device speed in another cell; what else
was not ruled out is counted in its row."""
BEST_AGAIN = 2
"""So many of the best are measured afresh beside the chosen way: the first figures are single ones."""
LEAST_TAIL = 0.01
BASELINE_JPEG = "jpeg@90"
MOST_DROP = 0.01
MOST_SETTLING = 4
MOST_RACED = 0.25
"""Where the local tail began beside more of the requests, what they took is no figure of this way alone: nothing
predicts that, and it is not told beside a prediction."""
VARIES = 0.7
"""Of the mean bytes that a coding leaves, what a request may leave at least."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the grid."""

    model: str
    speed: float
    rtt_ms: float
    mbps: float

    def transfer_ms(self, size_bytes: float) -> float:
        """What so many bytes take, both ways together, with the round trip: no way takes less."""
        return self.rtt_ms + size_bytes * 8e-3 / self.mbps

    @property
    def shape(self) -> Shape:
        """Of the link."""
        return Shape(up_mbps=self.mbps, down_mbps=self.mbps, rtt_ms=self.rtt_ms)


@dataclass(slots=True)
class Known:
    """What is known of a way from where it was measured.

    Attributes:
        least_bytes: that travel at least, from the shapes of its tensors, or as counted.
        base_ms: by device speed, what it took beside bytes and round trip: the least figure.
        cpu_ms: of the device, at full speed.
        refused: why the product does not run it.
        keeps: whether its codec keeps the answers; others are only there to be told beside.
    """

    least_bytes: float
    base_ms: dict[str, float] = field(default_factory=dict)
    cpu_ms: float = 0.0
    refused: str = ""
    keeps: bool = True

    @property
    def able(self) -> bool:
        """Whether a plan may take it."""
        return not self.refused and self.keeps


@dataclass(frozen=True, slots=True)
class Row:
    """A cell, with or without the input kept here.

    Attributes:
        chosen, best: ways.
        chosen_ms, best_ms: measured afresh in turns.
        regret: of the chosen way.
        predicted_ms: of the chosen way; None where the plan tells none.
        load_ms: until the plan was made.
        local_ms, raw_ms, jpeg_ms: always here, and always the whole input there, raw and as JPEG; None where the
            model's input cannot travel so.
        estimated: which of these are bounds and not measured, since they are far above the best.
        measured: milliseconds and prediction of all ways that were.
        ruled_out, left: ways that cannot be best, and that would have had to be measured too.
        first: the way that was chosen when the model was loaded; `chosen` is that after the requests.
        again: the second figure of each way that was measured twice, over the first: how much this machine varies.
        overhead: what the session that chooses takes above one that was told to go that way: looking after links and
            plans. It is no regret of the choice, but a user pays it.
        events: of the session that chooses: each switch, with what it was for.
    """

    model: str
    speed: float
    rtt_ms: float
    mbps: float
    keep_input_local: bool
    chosen: str
    best: str
    chosen_ms: float
    best_ms: float
    regret: float
    predicted_ms: float | None
    load_ms: float
    local_ms: float
    raw_ms: float | None
    jpeg_ms: float | None
    estimated: tuple[str, ...]
    measured: dict[str, tuple[float, float | None]]
    ruled_out: int
    left: int
    first: str = ""
    again: tuple[float, ...] = ()
    overhead: float | None = None
    events: tuple[str, ...] = ()


class Judge:
    """Judges one model, cell by cell.

    Args:
        on: where it is measured.
        model: which.
        known: of its ways, from before; filled.
    """

    def __init__(self, on: Stage, model: Model, known: dict[Way, Known]) -> None:
        self.stage, self.path, self.known = on, model.path, known
        self._open: set[str] = set()
        self._raced: set[Way] = set()
        for way, least_bytes, keeps in ways_of(model):
            known.setdefault(way, Known(least_bytes, keeps=keeps))
        with on.unhindered():
            self.load(str(LOCAL), {})
            self.known[LOCAL].cpu_ms = self._ask(str(LOCAL), 8).cpu_ms

    def close(self, name: str | None = None) -> None:
        """Closes a session that was loaded, or all."""
        for key in sorted(self._open) if name is None else [name]:
            self._close(key)

    def refer(self, until_s: float) -> bool:
        """Measures each cut once at full speed, uncoded: bounds for what comes. False where time is up before."""
        for way, known in self.known.items():
            plain = way != LOCAL and (way.codec, way.coding) == ("none", "none")
            if not plain or known.base_ms or not known.able:
                continue
            if time.monotonic() > until_s:
                return False
            with self.stage.unhindered():
                if self._open_pinned(way):
                    self._measure(way, Cell(self.path.parent.name, 1.0, FASTEST.rtt_ms, FASTEST.up_mbps), 5, 1.0)
                    self._close(str(way))
        return True

    def judge(self, cell: Cell) -> list[Row]:
        """Both rows of a cell."""
        self.stage.shape(cell.shape)
        self.stage.device.speed = cell.speed
        chosen = {keep: self._choose(cell, keep) for keep in (False, True)}
        self._raced.clear()
        found = self._measure_all(cell)
        rows = [self._row(cell, keep, chosen[keep], found) for keep in (False, True)]
        self._close_all_but_local()
        return rows

    def local_ms(self) -> float:
        """What a request takes here, at the speed of now."""
        return self._ask(str(LOCAL), 8).typical_ms

    def load(self, name: str, options: dict[str, Any], speed: float | None = None) -> dict[str, Any]:
        """Loads the model once more; what its plan tells.

        Args:
            name: of the session.
            options: of `edge_sdk.load`.
            speed: of the device, where the product plans: devices of other speeds know nothing of it.
        """
        told = self.stage.device.open(self.key(name), self.path, options, self.stage.cache(speed))
        self._open.add(name)
        return told

    def key(self, name: str) -> str:
        """What the device calls a session."""
        return f"{self.path}|{name}"

    def _measure_all(self, cell: Cell) -> dict[Way, float]:
        found = {LOCAL: self._measure(LOCAL, cell, 6, 1.0) or 0.0}
        for way in self._worth(cell, found):
            with self.stage.unhindered():
                opened = self._open_pinned(way)
            if opened:
                ms = self._measure(way, cell, 5, 0.8)
                if ms is not None:
                    found[way] = ms
        return found

    def _close_all_but_local(self) -> None:
        for key in [key for key in self._open if key != str(LOCAL)]:
            self._close(key)

    # --- ways ---

    def _bound_ms(self, way: Way, cell: Cell) -> float:
        """No measurement of this way in this cell is far below; see `benchmarks/split.py`."""
        known = self.known[way]
        if way == LOCAL:
            return 0.0
        transfer_ms = cell.transfer_ms(known.least_bytes)
        base_ms = known.base_ms.get(str(cell.speed))
        if base_ms is not None:
            return 0.95 * base_ms + transfer_ms
        for other in (known, self.known.get(Way(way.kind, way.cut))):
            if other is not None and other.cpu_ms:
                elsewhere_ms = max(other.base_ms["1.0"] - other.cpu_ms, 0.0)
                return 0.8 * (elsewhere_ms + other.cpu_ms * self._slowness(cell)) + transfer_ms
        return transfer_ms

    def _slowness(self, cell: Cell) -> float:
        """How many times as long the device takes at this speed: what it was asked for, or as local requests show."""
        local = self.known[LOCAL]
        return max(local.base_ms.get(str(cell.speed), 0.0) / max(local.cpu_ms, 1e-9), 1 / cell.speed)

    def _worth(self, cell: Cell, found: dict[Way, float]) -> Iterator[Way]:
        """Ways that may be best, with or without those that send the input, the likeliest first; follows `found`."""
        tried, again = {LOCAL}, 0
        for way in self._baselines().values():  # told in any case, where that does not take too long
            if self._bound_ms(way, cell) < 2 * found[LOCAL]:
                tried.add(way)
                yield way
        while len(tried) <= MOST_WAYS:
            waiting = self._unsettled(cell, found, tried)
            if again >= MOST_AGAIN:
                waiting = [way for way in waiting if str(cell.speed) not in self.known[way].base_ms]
            if not waiting:
                return
            again += str(cell.speed) in self.known[waiting[0]].base_ms
            tried.add(waiting[0])
            yield waiting[0]

    def _unsettled(self, cell: Cell, found: dict[Way, float], tried: set[Way]) -> list[Way]:
        best_ms = min(ms for way, ms in found.items() if self.known[way].keeps)
        kept_ms = min(ms for way, ms in found.items() if way.kind != "offload")
        bounds = {
            way: self._bound_ms(way, cell) for way, known in self.known.items() if known.able and way not in tried
        }
        able = [way for way, ms in bounds.items() if ms < (best_ms if way.kind == "offload" else kept_ms)]
        return sorted(able, key=lambda way: bounds[way])

    # --- measuring ---

    def _choose(self, cell: Cell, keep: bool) -> dict[str, Any]:
        """What the product chooses here: its plan as JSON, with the key of its session."""
        key = f"chosen, {'input kept' if keep else 'free'}"
        told = self.load(key, self.stage.options(self.path, None, keep_input_local=keep), cell.speed)
        told["key"] = key
        for _ in range(MOST_SETTLING):
            self._ask(key, 8, 3.0)
            if not self.stage.device.settle(self.key(key)):  # what is prepared beside would slow all that follows
                break
        return told

    def _open_pinned(self, way: Way) -> bool:
        """Loads one way; False where the product refuses it."""
        known, key = self.known[way], str(way)
        if key in self._open:
            return True
        try:
            self.load(key, self.stage.options(self.path, way))
        except Refused as error:
            known.refused = str(error)
            return False
        return True

    def _measure(self, way: Way, cell: Cell, count: int, seconds: float) -> float | None:
        """Typical milliseconds; remembers what bounds it elsewhere. None where the endpoint is late and the device
        answers: then it is no other way than local."""
        key, known = str(way), self.known[way]
        self._ask(key, 5 if way.kind != "local" else 2, 1.5)
        before = self._passed()
        asked = self._ask(key, count, seconds)
        size_bytes = sum(self._passed()[name] - before[name] for name in before) / len(asked.times_ms)
        if way.kind == "local":
            local_ms = asked.typical_ms
            known.base_ms[str(cell.speed)] = min(known.base_ms.get(str(cell.speed), local_ms), local_ms)
            return local_ms
        if asked.remote_share < 0.75:
            return None
        base_ms = max(asked.typical_ms - cell.transfer_ms(size_bytes), 0.0)
        if asked.raced_share > MOST_RACED:
            self._raced.add(way)
        known.least_bytes = size_bytes
        known.base_ms[str(cell.speed)] = min(known.base_ms.get(str(cell.speed), base_ms), base_ms)
        if cell.speed == 1.0:
            known.cpu_ms = asked.cpu_ms
        return asked.typical_ms

    def _row(self, cell: Cell, keep: bool, chosen: dict[str, Any], found: dict[Way, float]) -> Row:
        barred = {way_of(one["way"]) for one in chosen["candidates"] if not one["feasible"]} if keep else set()
        able = {way: ms for way, ms in found.items() if self.known[way].keeps and way not in barred}
        first, baselines = way_of(chosen["way"]), self._baselines()
        likely = sorted(able, key=lambda one: able[one])[:BEST_AGAIN]
        told = [one for one in (*baselines.values(), first) if one in found]
        fresh_ms = self._in_turns([chosen["key"], *map(str, dict.fromkeys([LOCAL, *likely, *told]))])
        fresh = {one: fresh_ms[str(one)] for one in (LOCAL, *likely)}
        best = min(fresh, key=lambda one: fresh[one])
        chosen_ms, best_ms = fresh_ms[chosen["key"]], fresh[best]
        now = self.stage.device.report(self.key(chosen["key"]))
        way = way_of(now["way"])  # it may have learnt better meanwhile
        predicted = predictions(chosen)
        unsettled = self._unsettled(cell, found, set(found))
        raw, jpeg = (
            None if one is None else fresh_ms.get(str(one), self._bound_ms(one, cell))
            for one in (baselines.get("raw"), baselines.get("jpeg"))
        )
        return Row(
            **asdict(cell),
            keep_input_local=keep,
            chosen=str(way),
            best=str(best),
            chosen_ms=chosen_ms,
            best_ms=best_ms,
            regret=0.0 if way == best else max(0.0, chosen_ms / best_ms - 1),
            predicted_ms=predicted.get(way),
            load_ms=chosen["load_ms"],
            local_ms=fresh_ms[str(LOCAL)],
            raw_ms=raw,
            jpeg_ms=jpeg,
            estimated=tuple(name for name, one in baselines.items() if one not in found),
            measured={
                str(one): (ms, None if one in self._raced - {way} else predicted.get(one))
                for one, ms in {**able, **fresh, way: chosen_ms}.items()
            },
            ruled_out=len(self.known) - len(found) - len(unsettled),
            left=len(unsettled),
            first=str(first),
            again=tuple(ms / found[one] for one, ms in fresh.items() if found.get(one)),
            overhead=chosen_ms / fresh_ms[str(way)] - 1 if str(way) in fresh_ms else None,
            events=tuple(now["events"]),
        )

    def _baselines(self) -> dict[str, Way]:
        wanted = {"raw": ("none", "none"), "jpeg": ("none", BASELINE_JPEG)}
        ways = [way for way, known in self.known.items() if way.kind == "offload" and not known.refused]
        return {name: way for name, codings in wanted.items() for way in ways if (way.codec, way.coding) == codings}

    def _in_turns(self, keys: Sequence[str]) -> dict[str, float]:
        """What sessions take that take turns in blocks, each at least 4 requests and until 1.5 s or 24 requests."""
        times: dict[str, list[float]] = {key: [] for key in keys}
        turn = 0
        while waiting := [
            key for key, each in times.items() if len(each) < 4 or (len(each) < 24 and sum(each) < 1.5e3)
        ]:
            for key in waiting if turn % 2 == 0 else reversed(waiting):
                count = 6 if times[key] and statistics.median(times[key]) < 50 else 2
                found = self._ask(key, count + 1, 1.0, turn * 3).times_ms
                # The first one of a turn finds cold caches; where it takes long that is nothing beside it.
                times[key] += found[1:] if len(found) > 1 and found[0] < 300 else found
            turn += 1
        return {key: mean_without_slowest(each) for key, each in times.items()}

    # --- sessions ---

    def _ask(self, key: str, count: int, seconds: float = 5.0, start: int = 0) -> Asked:
        return self.stage.device.ask(self.key(key), count, seconds, start)

    def _close(self, key: str) -> None:
        self._open.discard(key)
        self.stage.device.close(self.key(key))

    def _passed(self) -> dict[str, int]:
        self.stage.link.set()
        return dict(self.stage.link.passed)


def ways_of(model: Model) -> list[tuple[Way, float, bool]]:
    """All ways to run a bundle, with the fewest bytes that each may send, and whether a plan may take it."""
    from edge_sdk import bundle

    found: list[tuple[Way, float, bool]] = [(LOCAL, 0.0, True)]
    inputs = tuple(name for name in model.data[0])
    with bundle.open(model.path) as opened:
        cuts = opened.manifest.cuts
    for cut in cuts:
        kind = "offload" if set(cut.tensors) == set(inputs) else "split"
        # With next to nothing left for the endpoint, a way takes what local does and the round trip besides.
        if kind == "split" and (cut.tail_macs or 0) < LEAST_TAIL * ((cut.head_macs or 0) + (cut.tail_macs or 0)):
            continue
        if not cut.codecs:
            found.append((Way(kind, cut.tensors), float(cut.wire_bytes or 0), True))
        for one in cut.codecs:
            way = Way(kind, cut.tensors, one.codec, one.coding)
            keeps = one.drop is not None and one.drop <= MOST_DROP
            if keeps or (kind == "offload" and one.coding == BASELINE_JPEG):
                found.append((way, VARIES * one.wire_bytes, keeps))
    return found


def way_of(told: Sequence[Any]) -> Way:
    """A way that a device told as JSON."""
    kind, cut, codec, coding = told
    return Way(kind, tuple(cut), codec, coding)


def told_of(way: Way) -> list[Any]:
    """As a device tells it."""
    return [way.kind, list(way.cut), way.codec, way.coding]


def predictions(plan: dict[str, Any]) -> dict[Way, float]:
    """Predicted milliseconds of the candidates of a plan."""
    return {way_of(one["way"]): one["predicted_ms"] for one in plan["candidates"] if one["predicted_ms"] is not None}
