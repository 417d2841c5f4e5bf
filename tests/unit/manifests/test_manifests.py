"""What the API server is sent: golden files, names, mounts, rendezvous; nothing but pinned values shapes it."""

from typing import Any

import finetune_contract as contract
import pytest
from finetune_contract import wire
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.status import AttemptStatus, FineTuneJob, FineTuneJobStatus
from finetune_operator.lifecycle.observation import Settings
from finetune_operator.manifests import names
from finetune_operator.manifests.children import children
from finetune_operator.manifests.pod import avoided_nodes
from finetune_operator.manifests.preflight import preflight_pod
from finetune_operator.manifests.rendezvous import master_port
from finetune_operator.manifests.run_config import run_config

from tests.golden.manifests import GOLDEN, golden_text, rendered
from tests.unit.lifecycle.lifecycle_builders import JOB_UID, a_job, a_pool, pinned_status
from tests.unit.lifecycle.world import a_planned_world
from tests.unit.manifests.manifest_builders import RICH, a_pinned_job

RENDERED = rendered()


def pods_of(job: FineTuneJob, attempt: int = 0) -> list[dict[str, Any]]:
    return [item for item in children(job, job.status, attempt) if item["kind"] == "Pod"]


def env_of(pod: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in pod["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize("name", sorted(RENDERED))
def test_the_manifests_are_those_of_the_golden_file(name: str):
    """`make goldens` writes the files; their difference is what the API server sees change."""
    assert golden_text(RENDERED[name]) == (GOLDEN / f"{name}.json").read_text()


def test_there_is_no_other_golden_file():
    """A case that is renamed takes its file along."""
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == sorted(RENDERED)


def test_names_are_functions_of_identity():
    """The longest job name leaves room for the highest numbers in a hostname, which has 63 characters."""
    job = "j" * 52
    made = [names.preflight_pod_name("bot", 3), names.trainer_pod_name("bot", 2, 1), names.service_name("bot", 2)]

    assert made == ["bot-preflight-3", "bot-2-1", "bot-2"]
    assert len(names.trainer_pod_name(job, 99_999, 999)) <= 63


def test_the_same_input_gives_equal_manifests_that_share_nothing():
    """A new dict every time: nobody can edit another's."""
    job = a_pinned_job(replicas=2, **RICH)
    first, second = children(job, job.status, 0), children(job, job.status, 0)
    assert first == second

    first[1]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "1000"
    first[1]["metadata"]["labels"]["finetune.dev/attempt"] = "7"

    assert second == children(job, job.status, 0)


def test_edits_after_pinning_change_no_manifest():
    """Pool, settings and the mutable part of the spec: a running job is not reshaped by any of them."""
    world = a_planned_world(resources={"gpus": 2})
    before = children(world.job, world.status, 0)
    world.pools = (a_pool(pricePerGPUHourUSD="99.00", nodeSelector=[{"key": "a", "value": "b"}], tolerations=[]),)
    world.settings = Settings(trainer_image="other:1", preflight_image="other:2", operator_version="9")
    world.edit(suspend=False, runPolicy={"maxRetries": 9, "budget": {"maxCostUSD": "1000"}})
    for name in [name for name in world.pods if name.startswith("bot-0-")]:
        world.vanish(name)
    created = world.one_pass().create

    assert created == tuple(item for item in before if item["kind"] == "Pod")


def test_editing_the_pool_changes_the_next_plan_only():
    """A snapshot is what the pool was."""
    job = a_pinned_job()
    dearer: GPUPool = a_pool(pricePerGPUHourUSD="99.00")

    assert job.status.plan is not None
    assert job.status.plan.pool.price_per_gpu_hour_usd == "3.60"
    assert pinned_status(a_job(), dearer).plan != job.status.plan


def test_the_trainer_is_told_what_was_pinned():
    """The annotation reads back as the RunConfig, every field of it."""
    job = a_pinned_job(replicas=2, **RICH)
    (first, second) = pods_of(job)
    text = first["metadata"]["annotations"][names.RUN_ANNOTATION]

    assert wire.loads(contract.RunConfig, text) == run_config(job, job.status, 0)
    assert second["metadata"]["annotations"] == first["metadata"]["annotations"]


def test_method_full_has_no_adapter():
    """A lora section would be ignored by the trainer, so there is none."""
    job = a_pinned_job(plan={"method": "full"})

    assert run_config(job, job.status, 0).lora is None


def test_a_pod_has_the_time_that_stopping_takes():
    """The plan says how long: the trainer saves whenever it is asked to stop, however large the checkpoint is."""
    slow = {"size_gib": "500", "save_seconds": 300, "interval_seconds": 3600, "grace_seconds": 930}
    job = a_pinned_job(plan={"checkpoint": {**slow, "loss_on_reclaim_seconds": 1800}})

    assert pods_of(job)[0]["spec"]["terminationGracePeriodSeconds"] == 930


CLAIMS: dict[str, Any] = {
    "model": {"source": "pvc://models/base"},
    "datasets": [{"source": "pvc://data/a.jsonl"}, {"source": "pvc://data/b.jsonl"}],
    "evaluation": {"source": {"source": "pvc://heldout/c.jsonl"}},
    "lora": {"initialAdapter": "pvc://shared/adapters/v1"},
    "output": {"destination": "pvc://shared/out"},
    "checkpoint": {"destination": "pvc://ckpt/bot"},
}


def test_claims_are_mounted_once_and_written_only_where_something_is_written():
    """Reading and writing the same claim needs one mount that may be written."""
    job = a_pinned_job(**CLAIMS)
    wanted = {
        "/mnt/claims/ckpt": False,
        "/mnt/claims/data": True,
        "/mnt/claims/heldout": True,
        "/mnt/claims/models": True,
        "/mnt/claims/shared": False,
    }
    for pod in (*pods_of(job), preflight_pod(job, 1, image="p")):
        spec = pod["spec"]
        mounted = {m["mountPath"]: m for m in spec["containers"][0]["volumeMounts"] if "claims" in m["mountPath"]}
        volumes = {v["name"]: v["persistentVolumeClaim"] for v in spec["volumes"] if "persistentVolumeClaim" in v}

        assert {path: mount["readOnly"] for path, mount in mounted.items()} == wanted
        assert {path: volumes[mount["name"]]["claimName"] for path, mount in mounted.items()} == {
            path: path.rsplit("/", 1)[1] for path in wanted
        }
        assert env_of(pod)[contract.ENV_CLAIMS] == ":".join(f"{path.rsplit('/', 1)[1]}={path}" for path in wanted)


def test_secrets_are_mounted_by_their_documented_keys_only():
    """No envFrom and no other key; a missing Secret does not hold the Pod up: preflight says what is missing."""
    pod = preflight_pod(a_pinned_job(**RICH), 1, image="p")
    secrets = [volume["secret"] for volume in pod["spec"]["volumes"] if "secret" in volume]

    assert [secret["secretName"] for secret in secrets] == ["hf-token", "s3-read", "s3-write"]
    assert all(secret["optional"] for secret in secrets)
    assert {tuple(item["key"] for item in secret["items"]) for secret in secrets} == {contract.SECRET_KEYS}
    assert env_of(pod)[contract.ENV_SECRETS] == (
        "hf-token=/mnt/secrets/hf-token:s3-read=/mnt/secrets/s3-read:s3-write=/mnt/secrets/s3-write"
    )


def test_a_template_in_a_config_map_is_mounted_into_preflight_and_trainer():
    """The key alone, and optional as Secrets are: one that arrives late lets the job go on."""
    job = a_pinned_job(chat={"templateSource": "configmap://chat/own.jinja"})
    for pod in (*pods_of(job), preflight_pod(job, 1, image="p")):
        (mount,) = [m for m in pod["spec"]["containers"][0]["volumeMounts"] if m["name"].startswith("config-map")]
        (volume,) = [v for v in pod["spec"]["volumes"] if "configMap" in v]

        assert mount == {"name": "config-map-0", "mountPath": "/mnt/config-maps/chat", "readOnly": True}
        assert volume == {
            "name": "config-map-0",
            "configMap": {"name": "chat", "items": [{"key": "own.jinja", "path": "own.jinja"}], "optional": True},
        }
        assert env_of(pod)[contract.ENV_CONFIG_MAPS] == "chat=/mnt/config-maps/chat"


def test_one_process_needs_no_rendezvous():
    """Neither Service, nor gate, nor torchrun's environment."""
    job = a_pinned_job()
    (pod,) = children(job, job.status, 0)

    assert not {"hostname", "subdomain", "schedulingGates"} & set(pod["spec"])
    assert not {name for name in env_of(pod) if name.startswith(("PET_", "MASTER_", "RANK", "WORLD"))}


def test_several_gpus_of_one_pod_meet_on_the_loopback():
    """torchrun needs its environment, but no Service."""
    job = a_pinned_job(plan={"gpus_per_replica": 4})
    (pod,) = children(job, job.status, 0)
    env = env_of(pod)

    assert (env["PET_NPROC_PER_NODE"], env["PET_NNODES"], env["MASTER_ADDR"]) == ("4", "1", "127.0.0.1")
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "4"


def test_several_replicas_meet_at_replica_zero():
    """Both families of variables, the first global rank of each replica, gates and names that DNS can resolve."""
    job = a_pinned_job(replicas=3, plan={"gpus_per_replica": 2})
    service, *pods = children(job, job.status, 0)
    ranks = [(env_of(pod)["PET_NODE_RANK"], env_of(pod)["RANK"]) for pod in pods]

    assert ranks == [("0", "0"), ("1", "2"), ("2", "4")]
    assert {env_of(pod)["WORLD_SIZE"] for pod in pods} == {"6"}
    assert {env_of(pod)["PET_MASTER_ADDR"] for pod in pods} == {"bot-0-0.bot-0"}
    assert {pod["spec"]["subdomain"] for pod in pods} == {service["metadata"]["name"]}
    assert [pod["spec"]["hostname"] for pod in pods] == ["bot-0-0", "bot-0-1", "bot-0-2"]
    assert all(pod["spec"]["schedulingGates"] == [{"name": "finetune.dev/gang"}] for pod in pods)
    for pod in pods:
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


def test_every_attempt_has_a_port_of_its_own():
    """A dying attempt must not be met by its successor."""
    ports = [master_port(JOB_UID, attempt) for attempt in range(20)]

    assert len(set(ports)) == 20
    assert all(20_000 <= port < 30_000 for port in ports)


SILENT_FOR_FIVE_MINUTES = [
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
]


def test_preflight_rather_keeps_off_a_node_that_refused_it():
    """Beside the preference for nodes without GPUs."""
    spec = preflight_pod(a_pinned_job(), 1, image="finetune-preflight:dev", avoided=("win-1",))["spec"]

    assert spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][1] == {
        "weight": 100,
        "preference": {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["win-1"]}]},
    }


def test_preflight_rather_keeps_off_gpu_nodes():
    """Where every node has GPUs it runs on the CPUs of one; a taint keeps it off, as it tolerates only a node's silence."""
    spec = preflight_pod(a_pinned_job(), 1, image="finetune-preflight:dev")["spec"]
    expressions = [{"key": "nvidia.com/gpu.present", "operator": "DoesNotExist"}]

    affinity = spec["affinity"]["nodeAffinity"]
    assert affinity["preferredDuringSchedulingIgnoredDuringExecution"] == [
        {"weight": 100, "preference": {"matchExpressions": expressions}}
    ]
    assert spec["tolerations"] == SILENT_FOR_FIVE_MINUTES
    assert not [name for name in spec["containers"][0]["resources"]["requests"] if "/" in name]


def test_nodes_that_failed_twice_before_this_attempt_are_avoided():
    """Later attempts do not change what an earlier one was created with."""
    failed = ["a", "b", "a", "", "b"]
    attempts = [
        AttemptStatus(number=number, start_time="2026-01-31T12:00:00Z", failed_node=node)
        for number, node in enumerate(failed)
    ]

    status = FineTuneJobStatus(attempts=attempts)

    assert [avoided_nodes(status, before=number) for number in range(6)] == [
        (), (), (), ("a",), ("a",), ("a", "b"),
    ]  # fmt: skip
    assert avoided_nodes(FineTuneJobStatus(refused_nodes=["c"]), before=0) == ("c",)
