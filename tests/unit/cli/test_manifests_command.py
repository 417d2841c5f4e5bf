"""Manifests that serve results: what is in them, and what is refused with a remedy."""

from typing import Any

import pytest
import yaml
from finetune_contract import Artifact, RunConfig
from finetune_contract.served import Load
from finetune_contract.serving.objects import Result
from finetune_contract.serving.text import files
from finetune_contract.wire import dumps, from_wire, loads
from finetune_operator.api.meta import Condition
from finetune_operator.api.published import ArtifactStatus
from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.serving_objects import Wishes, serving_objects
from finetune_operator.errors import FinetuneError
from finetune_operator.manifests.run_config import run_config
from finetune_operator.manifests.serving_facts import serving_facts

from tests.unit.lifecycle.lifecycle_builders import a_job, a_pool, pinned_status

LOAD = Load(length=2048, concurrency=4)
DIGEST = "sha256:" + "e" * 64


def artifact(kind: str = "adapter", **parts: Any) -> ArtifactStatus:
    values: dict[str, Any] = {
        "kind": kind, "uri": f"s3://team-a/out/{kind}", "digest": DIGEST, "size_bytes": 19_000_000,
        "base_revision": "c" * 40, "lora_rank": 16 if kind == "adapter" else 0,
        "servable": "vllm, sglang, tgi, llama.cpp",
    }  # fmt: skip
    return ArtifactStatus.model_validate({**values, **parts})


def finished(name: str, *artifacts: ArtifactStatus) -> FineTuneJob:
    """A job that has published."""
    job = a_job(output={"destination": "s3://team-a/out", "credentials": {"secretName": "s3"}})
    status = pinned_status(job, a_pool()).model_copy(update={"artifacts": list(artifacts)})
    return job.model_copy(update={"status": status, "metadata": job.metadata.model_copy(update={"name": name})})


def made(engine: Any, *jobs: FineTuneJob) -> tuple[Any, ...]:
    text = serving_objects(list(jobs), engine, Wishes(load=LOAD, unpromoted=True))
    return tuple(yaml.safe_load_all(text))


def test_several_adapters_of_one_base_share_a_vllm():
    """The base comes from the hub at its revision; each adapter is fetched first, and refused if its digest is another one."""
    deployment, service = made("vllm", finished("one", artifact()), finished("two", artifact(lora_rank=40)))
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert container["args"] == [
        "org/model", "--served-model-name", "base", "--revision", "c" * 40, "--max-model-len", "2048", "--max-num-seqs",
        "4", "--tensor-parallel-size", "1", "--port", "8000", "--enable-lora", "--max-lora-rank", "64", "--max-loras", "2",
        "--lora-modules", "one=/models/one", "two=/models/two",
    ]  # fmt: skip
    assert [one["args"][2:] for one in pod["initContainers"]] == [
        ["fetch", "s3://team-a/out/adapter", "/models/one", DIGEST, "s3"],
        ["fetch", "s3://team-a/out/adapter", "/models/two", DIGEST, "s3"],
    ]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1", "memory": "9Gi"}
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]


def test_a_merged_model_is_served_without_an_adapter():
    """Rather than the adapter beside it: one model needs no slots."""
    deployment, _ = made("vllm", finished("one", artifact(), artifact("merged")))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert (container["command"], container["args"][:3]) == (
        ["vllm", "serve"],
        ["/models/one", "--served-model-name", "one"],
    )
    assert "--enable-lora" not in container["args"]


def test_a_gguf_is_served_by_llama_cpp_without_a_gpu():
    """Memory for the file and for the cache of all requests."""
    deployment, _ = made("llama-cpp", finished("one", artifact(), artifact("gguf-q8_0", size_bytes=2**30)))
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert container["args"][:4] == ["--model", "/models/one/one-q8_0.gguf", "--alias", "one"]
    assert container["args"][4:8] == ["--ctx-size", "8192", "--parallel", "4"]
    assert container["resources"]["limits"] == {"memory": "3Gi"}
    assert "nodeSelector" not in pod


def test_kserve_gets_the_base_and_our_init_containers_bring_the_adapters():
    """Its controller does nothing with lora.adapters: vLLM is told by options, and each adapter's digest is checked before it starts."""
    (service,) = made("kserve", finished("one", artifact()), finished("two", artifact()))
    spec = service["spec"]
    (container,) = spec["template"]["containers"]

    assert spec["model"] == {"uri": f"hf://org/model:{'c' * 40}", "name": "base"}
    assert container["args"] == [
        "--max-model-len", "2048", "--max-num-seqs", "4", "--tensor-parallel-size", "1", "--enable-lora", "--max-lora-rank", "16",
        "--max-loras", "2", "--lora-modules", "one=/adapters/one", "two=/adapters/two",
    ]  # fmt: skip
    assert [one["args"][2:] for one in spec["template"]["initContainers"]] == [
        ["fetch", "s3://team-a/out/adapter", "/models/one", DIGEST, "s3"],
        ["fetch", "s3://team-a/out/adapter", "/models/two", DIGEST, "s3"],
    ]
    assert service["metadata"]["annotations"] == {"finetune.dev/digest-one": DIGEST, "finetune.dev/digest-two": DIGEST}


@pytest.mark.parametrize("engine", ["vllm", "llama-cpp", "kserve"])
def test_a_name_stays_when_the_version_changes(engine: Any):
    """Objects, labels and the model are called by it; where it comes from, and its digest, are the job's."""
    job = finished("bot-v2", artifact(), artifact("gguf-q8_0"))
    text = serving_objects([job], engine, Wishes(load=LOAD, name="bot"))
    objects = list(yaml.safe_load_all(text))
    served = {
        "vllm": lambda: objects[0]["spec"]["template"]["spec"]["containers"][0]["args"][-1],
        "llama-cpp": lambda: objects[0]["spec"]["template"]["spec"]["containers"][0]["args"][:4],
        "kserve": lambda: objects[0]["spec"]["template"]["containers"][0]["args"][-1],
    }[engine]()

    assert {each["metadata"]["name"] for each in objects} == {"bot"}
    assert served == {
        "vllm": "bot=/models/bot", "kserve": "bot=/adapters/bot",
        "llama-cpp": ["--model", "/models/bot/bot-v2-q8_0.gguf", "--alias", "bot"],
    }[engine]  # fmt: skip
    assert DIGEST in text


def test_a_model_that_did_not_pass_its_gate_is_not_served():
    """Unless it is asked for."""
    job = finished("bot", artifact())
    failed = Condition(
        type="Promoted", status="False", reason="GateFailed", message="2 % better; the gate requires 5 %",
        last_transition_time="2026-01-31T12:00:00Z",
    )  # fmt: skip
    job = job.model_copy(update={"status": job.status.model_copy(update={"conditions": [failed]})})
    with pytest.raises(FinetuneError) as refusal:
        serving_objects([job], "vllm", Wishes(load=LOAD))

    assert str(refusal.value) == (
        "bot did not pass its gate (2 % better; the gate requires 5 %): train a better one, or pass --unpromoted to serve it "
        "all the same"
    )
    assert serving_objects([job], "vllm", Wishes(load=LOAD, unpromoted=True))


def test_a_name_that_no_service_can_have_is_refused():
    """Before anything is printed."""
    with pytest.raises(FinetuneError) as refusal:
        serving_objects([finished("bot", artifact())], "vllm", Wishes(load=LOAD, name="Bot_1"))

    assert str(refusal.value).startswith("--name Bot_1 must be at most 52 lower-case letters")


def test_kserve_fetches_a_merged_model_by_itself():
    """From S3 or a claim; what it would not fetch is refused before it is applied."""
    (service,) = made("kserve", finished("one", artifact(), artifact("merged")))
    assert service["spec"]["model"] == {"uri": "s3://team-a/out/merged", "name": "one"}
    assert "initContainers" not in service["spec"]["template"]

    for uri in ("gs://team-a/out/merged", "hf://team-a/out/merged"):
        with pytest.raises(FinetuneError) as refusal:
            made("kserve", finished("one", artifact(), artifact("merged", uri=uri)))
        assert str(refusal.value) == (
            f"KServe does not fetch {uri}: it takes s3://, pvc:// and whole repositories of a hub. Use --for vllm, or publish to s3:// or "
            "pvc://"
        )
    uri = f"oci://registry.example/out@{DIGEST}"
    with pytest.raises(FinetuneError) as refusal:
        made("kserve", finished("one", artifact(), artifact("merged", uri=uri)))
    assert str(refusal.value) == (
        f"KServe takes container images at oci://, and {uri} is an artifact with one layer for each file: use --for vllm, or publish to "
        "s3:// or pvc://"
    )


def test_a_result_in_a_registry_is_fetched_by_its_digest():
    """An init container brings it, with the login of the job; the server finds a folder."""
    uri = f"oci://registry.example/team/bot@{DIGEST}"
    deployment, _ = made("vllm", finished("bot", artifact(uri=uri)))
    pod = deployment["spec"]["template"]["spec"]

    assert pod["initContainers"][0]["args"] == ["-m", "finetune_trainer", "fetch", uri, "/models/bot", DIGEST, "s3"]
    (secret,) = [one["secret"] for one in pod["volumes"] if "secret" in one]
    assert {"key": ".dockerconfigjson", "path": ".dockerconfigjson"} in secret["items"]


@pytest.mark.parametrize(
    ("engine", "jobs", "message"),
    [
        ("vllm", [finished("one", artifact(servable="merged only: vllm does not load DoRA"))],
         "one has nothing that vllm serves: Add merged to output.exports, delete the job and apply it again: nothing is trained again"),
        ("llama-cpp", [finished("one", artifact())],
         "one has nothing that llama-cpp serves: Add gguf-q8_0 to output.exports, delete the job and apply it again: nothing is trained "
         "again"),
        ("vllm", [finished("one", artifact()), finished("two", artifact(base_revision="d" * 40))],
         f"two belongs to base model org/model {'d' * 40}, and one to org/model {'c' * 40}: one server loads only adapters of the same "
         "base model and revision"),
        ("vllm", [finished("one")], "one has published nothing yet (phase Pending)"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_with_a_remedy(engine: Any, jobs: list[FineTuneJob], message: str):
    """Before anything is printed."""
    with pytest.raises(FinetuneError) as refusal:
        made(engine, *jobs)

    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("artifacts", "engines"),
    [
        ([artifact()], ["vllm", "kserve"]),
        ([artifact("model")], ["vllm", "kserve"]),
        ([artifact(servable="merged only: vllm does not load DoRA")], []),
        ([artifact(), artifact("merged"), artifact("gguf-q8_0")], ["vllm", "kserve", "llama-cpp"]),
        ([artifact(), artifact("merged", uri="gs://team-a/out/merged")], ["vllm"]),
    ],
    ids=["adapter", "whole model", "DoRA", "every form", "not for KServe"],
)
def test_what_the_trainer_publishes_is_what_is_printed(artifacts: list[ArtifactStatus], engines: list[str]):
    """From the facts that the Pod is told, over the wire: the same text for each engine that serves the result, and no other."""
    job = finished("bot", *artifacts)
    told = loads(RunConfig, dumps(run_config(job, job.status, 0)))
    assert told.serving is not None
    published = files(
        Result(
            namespace=told.namespace, name=told.name, base=told.model, chat=told.chat, output=told.output,
            artifacts=tuple(from_wire(Artifact, one.model_dump(mode="json")) for one in artifacts),
        ),
        told.serving,
    )  # fmt: skip

    assert list(published) == [f"{engine}.yaml" for engine in engines]
    for engine in engines:
        assert published[f"{engine}.yaml"] == serving_objects([job], engine, Wishes(load=Load()))  # type: ignore[arg-type]


def test_nothing_is_named_by_an_anchor():
    """Labels occur three times: each is written out, as people write manifests."""
    text = serving_objects([finished("bot", artifact())], "vllm", Wishes(load=LOAD))

    assert "&id" not in text
    assert "*id" not in text


OWN_ENDS = "vllm (--generation-config FOLDER), sglang (stop_token_ids in requests), llama.cpp; not tgi"


def test_adapters_that_end_answers_in_their_own_way_bring_their_stops():
    """vLLM reads the base model's generation_config.json otherwise, and answers would not end."""
    adapter = artifact(servable=OWN_ENDS)
    deployment, _ = made("vllm", finished("one", artifact()), finished("two", adapter))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (kserve,) = made("kserve", finished("two", adapter))
    (main,) = kserve["spec"]["template"]["containers"]

    assert container["args"][-5:] == [
        "--lora-modules", "one=/models/one", "two=/models/two", "--generation-config", "/models/two",
    ]  # fmt: skip
    assert main["args"][-3:] == ["two=/adapters/two", "--generation-config", "/adapters/two"]


def test_adapters_with_different_ends_are_served_separately():
    """One server stops at the same tokens for all of them."""
    one, two = (finished(name, artifact(servable=OWN_ENDS)) for name in ("one", "two"))
    chat = two.spec.chat.model_copy(update={"template": "chatml"})
    two = two.model_copy(update={"spec": two.spec.model_copy(update={"chat": chat})})

    with pytest.raises(FinetuneError) as refusal:
        made("vllm", one, two)

    assert str(refusal.value) == (
        "one and two may end answers with different tokens (spec.chat differs), and one server stops at the same tokens for all "
        "adapters: serve them separately"
    )


def test_a_slice_of_a_card_is_not_taken_for_the_card():
    """The plan knows how much memory a MIG slice has; the catalogue only knows the whole card."""
    status = pinned_status(a_job(), a_pool())
    assert status.plan is not None
    slice_of_it = status.plan.vram.model_copy(update={"usable_gib": "19.50"})
    on_a_slice = status.model_copy(update={"plan": status.plan.model_copy(update={"vram": slice_of_it})})
    whole, part = serving_facts(status), serving_facts(on_a_slice)

    assert whole is not None
    assert part is not None
    assert (whole.gpu_memory_gib, part.gpu_memory_gib) == (79.1, 19.5)
