"""The dashboard and the alerts ask only for what `edge_sdk.Metrics` exposes, and each alert fires when it must."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_sdk.observing import FAMILIES, Family

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "packaging" / "monitoring"
OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that the server adds, and that of buckets."""

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here (package prometheus)")


def strings(node: Any, key: str) -> Iterator[str]:
    """All strings under this key, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key and isinstance(value, str):
                yield value
            else:
                yield from strings(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value, key)


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def dashboard() -> Any:
    return json.loads((MONITORING / "dashboard.json").read_text())


def expressions() -> dict[str, str]:
    """By panel or alert with a number, what it asks."""
    asked = {f"{rule['alert']}": rule["expr"] for rule in alerts()}
    for panel in dashboard()["panels"]:
        asked |= {f"{panel['title']} {at}": expr for at, expr in enumerate(strings(panel, "expr"))}
    asked |= {variable["name"]: variable["query"]["query"] for variable in dashboard()["templating"]["list"][1:]}
    return asked


def exposed() -> dict[str, Family]:
    """By name of a sample, its family."""
    found = {}
    for family in FAMILIES:
        behind = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
        found |= {family.exposed + suffix: family for suffix in behind}
    return found


@pytest.mark.parametrize(("where", "asked"), expressions().items())
def test_only_what_is_exposed_is_asked_for_and_by_labels_that_it_has(where: str, asked: str) -> None:
    names = set(re.findall(r"\bedge_sdk_\w+", asked))
    assert names <= exposed().keys() and (names or re.search(r"\bup\b", asked))
    labels = {label for name in names for label in exposed()[name].labels} | OF_PROMETHEUS
    grouped = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", asked)
    matched = re.findall(r"[{,]\s*(\w+)\s*=", asked)
    assert {label.strip() for group in grouped for label in group.split(",")} | set(matched) <= labels


def test_everything_exposed_is_on_the_dashboard_or_told_of_in_the_manual() -> None:
    manual = (ROOT / "docs" / "metrics.md").read_text()
    missing = [family.exposed for family in FAMILIES if f"`{family.exposed}`" not in manual]
    assert not missing


def test_legends_name_labels_that_there_are() -> None:
    labels = {label for family in FAMILIES for label in family.labels} | OF_PROMETHEUS
    for legend in strings(dashboard(), "legendFormat"):
        assert set(re.findall(r"{{(\w+)}}", legend)) <= labels


def test_panels_do_not_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    identities = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(identities)) == len(identities)
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


def test_each_alert_says_how_bad_it_is_and_what_to_think_and_is_tested_both_ways() -> None:
    tests = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "description"}
        fires = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == rule["alert"]}
        assert fires == {True, False}, rule["alert"]
    assert {case["alertname"] for case in cases} == {rule["alert"] for rule in alerts()}


@needs_promtool
@pytest.mark.parametrize(
    "check",
    [("check", "config", "prometheus.yaml"), ("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")],
)
def test_promtool_finds_nothing_wrong(check: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *check], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_can_parse_what_the_dashboard_asks(tmp_path: Path) -> None:
    asked = [expr.replace("$__rate_interval", "5m") for expr in strings(dashboard()["panels"], "expr")]
    rules = [{"record": f"panel:{at}", "expr": expr} for at, expr in enumerate(asked)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", "rules.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and f"{len(asked)} rules found" in done.stdout, done.stdout + done.stderr
