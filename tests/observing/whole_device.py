"""A device on which everything is there that metrics tell of: real sessions and schedulers on made-up sensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

import edge_sdk
from edge_sdk.device.facts import Accelerator
from edge_sdk.engines import LoadOptions, Runner
from edge_sdk.engines.simulated import SimulatedBehaviour, SimulatedEngine
from edge_sdk.formats import ModelFile
from edge_sdk.planner.lanes import LanesRunner
from edge_sdk.schedule import Governor, Level, Target
from edge_sdk.wire.http import HttpEndpoint
from edge_sdk.wire.probing import first_look
from tests import models
from tests.cloud_offload.endpoints import put, running
from tests.device.conftest import Machine

X = np.random.default_rng(0).standard_normal((1, 8), np.float32)


def sensors(root: Path) -> Path:
    """A machine with two zones of one name, a battery, cpufreq and memory."""
    machine = Machine(root).cpus("0-1")
    for index, milli_c in enumerate((48312, 51000)):
        zone = f"sys/class/thermal/thermal_zone{index}"
        machine.write(f"{zone}/type", "cpu-thermal").write(f"{zone}/temp", milli_c)
        machine.write(f"{zone}/trip_point_0_type", "passive").write(f"{zone}/trip_point_0_temp", 80000)
        machine.write(f"sys/devices/system/cpu/cpu{index}/cpufreq/scaling_cur_freq", 600000)
    machine.write("sys/devices/platform/soc/soc:firmware/get_throttled", "0x0")
    battery = "sys/class/power_supply/BAT0"
    for name, content in (("type", "Battery"), ("capacity", 64), ("status", "Discharging")):
        machine.write(f"{battery}/{name}", content)
    machine.write("proc/meminfo", "MemTotal:        4000000 kB")
    return machine.root


class InLanes(SimulatedEngine):
    """Loads each model twice, and shares requests out between the two."""

    def load(self, model: ModelFile, options: LoadOptions) -> Runner:
        return LanesRunner([super(InLanes, self).load(model, replace(options, cpus=(cpu,))) for cpu in range(2)])


def on_gpu() -> edge_sdk.Session:
    """A session on an accelerator that is well."""
    gpu = Accelerator(kind="gpu", name="gpu", engine="simulated", present=True)
    engine = SimulatedEngine(SimulatedBehaviour(accelerators=(gpu,)))
    return edge_sdk.load(models.onnx_mlp(), engine=engine, accelerator="gpu", plan_budget_s=0)


@contextmanager
def whole_device(tmp_path: Path) -> Iterator[edge_sdk.Metrics]:
    """Metrics of all of it, each model having answered."""
    metrics = edge_sdk.Metrics(sensors(tmp_path / "machine"))
    file = tmp_path / "mlp.onnx"
    file.write_bytes(models.onnx_mlp())
    put(tmp_path / "repository", "mlp", models.onnx_mlp())
    with ExitStack() as open_:
        levels = [Level("all cores", 30), Level("little cores", 15)]
        governor = metrics.add(Governor(levels, Target(max_c=70, rate_hz=15)))
        local = open_.enter_context(edge_sdk.load(file, max_latency_ms=20, plan_budget_s=5))
        gpu = open_.enter_context(on_gpu())
        shared = open_.enter_context(edge_sdk.load(file, engine=InLanes(SimulatedBehaviour()), plan_budget_s=0))
        server = open_.enter_context(running(tmp_path / "repository", tmp_path / "endpoint-cache"))
        endpoint = open_.enter_context(closing(HttpEndpoint(server.url)))
        first_look(endpoint)
        split = open_.enter_context(edge_sdk.load(file, plan_budget_s=0, endpoints=[endpoint], codec="none"))
        scheduler = open_.enter_context(edge_sdk.Scheduler(max_memory_mb=300))
        camera = scheduler.load("camera", file, priority=1, rate_hz=30, plan_budget_s=0)
        batch = scheduler.load("batch", file, plan_budget_s=0)
        metrics.add(scheduler)
        for name, session in (("local", local), ("gpu", gpu), ("shared", shared), ("split", split)):
            metrics.add(session, name)
        with local.stage("pre"):
            frame = X.copy()
        for one in (local, gpu, shared, camera, batch):
            one.run(frame)
        while (answered := split.split_figures()) is None or not answered.remote:  # until the tail is made
            split.run(X)
        yield metrics
        assert governor.level == 0
