"""Argo CD's customization of FineTuneJob, in Argo CD's own test format, run by the Lua of the version that Argo CD has.

Argo CD's runner takes the same files: copy gitops/argocd/finetune.dev to its resource_customizations/.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaError, LuaRuntime, lua_type

from tests.golden import argo

CUSTOMIZATION = argo.CUSTOMIZATION
HEALTH = yaml.safe_load((CUSTOMIZATION / "health_test.yaml").read_text())["tests"]
APPLIED = {"phase": "Succeeded", "message": "successfully synced", "finishedAt": "2026-01-01T10:00:05Z"}
ACTIONS = yaml.safe_load((CUSTOMIZATION / "actions" / "action_test.yaml").read_text())


def run(script: Path, job: dict[str, Any], **parameters: str) -> Any:
    """Return what a script makes of a job."""
    lua = LuaRuntime(register_eval=False)
    lua.globals().obj = lua.table_from(job, recursive=True)
    lua.globals().actionParams = lua.table_from(parameters)
    return plain(lua.execute(script.read_text()))


def plain(value: Any) -> Any:
    """Return a table of Lua as a dictionary or a list."""
    if lua_type(value) != "table":
        return value
    items = dict(value.items())
    if items and list(items) == list(range(1, len(items) + 1)):
        return [plain(item) for item in items.values()]
    return {key: plain(item) for key, item in items.items()}


def read(folder: Path, path: str) -> dict[str, Any]:
    """Return a job of a test."""
    job: dict[str, Any] = yaml.safe_load((folder / path).read_text())
    return job


@pytest.mark.parametrize("case", HEALTH, ids=lambda case: Path(case["inputPath"]).stem)
def test_health(case: dict[str, Any]):
    """Progressing, Healthy, Degraded or Suspended, each with the operator's own words."""
    assert run(CUSTOMIZATION / "health.lua", read(CUSTOMIZATION, case["inputPath"])) == case["healthStatus"]


@pytest.mark.parametrize(
    ("status", "health"),
    [
        ({}, {"status": "Progressing", "message": "Argo CD has not compared it yet"}),
        ({"health": {}}, {"status": "Progressing", "message": "Argo CD has not compared it yet"}),
        ({"health": {"status": "Degraded"}}, {"status": "Degraded", "message": ""}),
        ({"health": {"status": "Healthy"}}, {"status": "Progressing", "message": "Argo CD has not applied it yet"}),
        (
            {"health": {"status": "Healthy"}, "operationState": {"phase": "Running", "message": "waiting"}},
            {"status": "Progressing", "message": "waiting"},
        ),
        (
            {"health": {"status": "Healthy"}, "operationState": {"phase": "Failed", "message": "it is frozen"}},
            {"status": "Degraded", "message": "it is frozen"},
        ),
        (
            {"health": {"status": "Healthy"}, "reconciledAt": "2026-01-01T10:00:00Z", "operationState": APPLIED},
            {"status": "Progressing", "message": "Argo CD has not compared it since it was applied"},
        ),
        (
            {"health": {"status": "Healthy"}, "reconciledAt": "2026-01-01T10:00:09Z", "operationState": APPLIED},
            {"status": "Healthy", "message": ""},
        ),
    ],
)
def test_health_of_an_application(status: dict[str, Any], health: dict[str, str]):
    """An Application that Argo CD has not compared is not taken for a healthy one: waves wait for it."""
    assert run(argo.ARGOCD / "application-health.lua", {"status": status}) == health


def test_every_state_has_a_health():
    """No state is left out, and the jobs are what decisions make today."""
    assert sorted(case["inputPath"] for case in HEALTH) == sorted(f"testdata/{name}.yaml" for name in argo.STATES)
    assert {path: path.read_text() for path in argo.files()} == argo.files()


@pytest.mark.parametrize("case", ACTIONS["discoveryTests"], ids=lambda case: Path(case["inputPath"]).stem)
def test_what_may_be_done(case: dict[str, Any]):
    """An action that would change nothing is off."""
    offered = run(CUSTOMIZATION / "actions" / "discovery.lua", read(CUSTOMIZATION / "actions", case["inputPath"]))
    listed = [{"name": name, **action} for name, action in sorted(offered.items())]

    assert listed == case["result"]


@pytest.mark.parametrize(
    "case", ACTIONS["actionTests"], ids=lambda case: f"{case['action']}-{Path(case['inputPath']).stem}"
)
def test_what_an_action_changes(case: dict[str, Any]):
    """One field of the spec, as kubectl would; a parameter that makes no sense is refused in words."""
    folder = CUSTOMIZATION / "actions"
    script, job = folder / case["action"] / "action.lua", read(folder, case["inputPath"])
    if "expectedErrorMessage" in case:
        with pytest.raises(LuaError) as refused:
            run(script, job, **case.get("parameters", {}))
        assert case["expectedErrorMessage"] in str(refused.value)
        return
    wanted = read(folder, case["expectedOutputPath"])
    assert run(script, job, **case.get("parameters", {}))["spec"] == wanted["spec"]
