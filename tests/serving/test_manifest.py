"""The Deployment that `finetune manifests --for vllm` prints, as a Pod on the local cluster with the real vLLM: two adapters."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_contract.data import Location
from finetune_contract.run import Model
from finetune_contract.served import Load
from finetune_contract.serving.objects import objects
from finetune_operator.cli.serving_objects import server_of
from finetune_operator.local.ports import HOST, free_port
from finetune_trainer.publishing.artifacts import file_digests, folder_digest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.cluster.client import eventually
from tests.servers.control_plane import ProcessNode
from tests.serving.engine import Vllm
from tests.serving.install import installed, program
from tests.serving.test_engines import LORA, reference
from tests.trainer.test_export import for_llama_cpp
from tests.unit.cli.test_manifests_command import artifact, finished

pytestmark = [
    pytest.mark.serving,
    pytest.mark.skipif(not installed(), reason="make e2e-serving installs vLLM"),
    pytest.mark.filterwarnings("ignore"),
]

READY_SECONDS = 400
ON_CPUS = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_HOST_IP": HOST,
}  # fmt: skip


def adapter(folder: Path, base: Path, seed: int) -> Path:
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**LORA))
    torch.manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


def pod_of(deployment: Any, namespace: str, port: int) -> Any:
    """The Pod of a Deployment, on a machine without GPUs: nothing but the place, the port and the precision is changed."""
    spec = deployment["spec"]["template"]["spec"] | {"nodeSelector": {}, "tolerations": []}
    (container,) = spec["containers"]
    command, *rest = container["command"]
    assert command == "vllm"
    args = [
        str(port) if before == "--port" else word
        for before, word in zip(["", *container["args"]], container["args"], strict=False)
    ]
    container |= {
        "command": [str(program()), *rest],
        "args": [*args, "--host", HOST, "--dtype", "float32", "--enforce-eager"],
        "env": [*container["env"], *({"name": name, "value": value} for name, value in ON_CPUS.items())],
        "resources": {}, "startupProbe": None, "readinessProbe": None,
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server", "namespace": namespace},
        "spec": spec | {"restartPolicy": "Never"},
    }  # fmt: skip


def test_two_adapters_of_one_server_answer_differently(
    process_node: ProcessNode, node_namespace: str, tmp_path: Path
) -> None:
    """Each as PEFT does with its adapter, the base as the base; the init containers have checked every digest."""
    base = for_llama_cpp(tmp_path / "base")
    jobs = []
    for seed, name in enumerate(("north", "south")):
        folder = adapter(tmp_path / name / "adapter", base, seed)
        found = artifact(
            uri=f"file://{folder}", digest=folder_digest(file_digests(folder)), lora_rank=8, base_model=f"file://{base}"
        )
        job = finished(name, found)
        parts = {"source": f"file://{base}", "revision": None}
        output = {"destination": f"file://{tmp_path}/{name}", "credentials": None}
        spec = job.spec.model_copy(
            update={
                "model": job.spec.model.model_copy(update=parts),
                "output": job.spec.output.model_copy(update=output),
            }
        )
        jobs.append(job.model_copy(update={"spec": spec}))
    serving = server_of(jobs, "vllm", Load(length=128, concurrency=2))
    assert serving.base == Model(location=Location(uri=f"file://{base}"), revision="c" * 40)
    deployment, _ = objects("vllm", serving)
    port = free_port(set())
    process_node.cluster.apply(pod_of(deployment, node_namespace, port))
    server = Vllm(url=f"http://{HOST}:{port}")

    def answers() -> bool:
        phase = process_node.cluster.get("pod", "server", "-n", node_namespace)["status"].get("phase")
        log = process_node.cluster.kubectl("logs", "server", "-n", node_namespace, check=False).stdout
        assert phase not in ("Failed", "Succeeded"), log[-4000:]
        try:
            with urllib.request.urlopen(f"{server.url}/v1/models", timeout=5) as answer:
                return [one["id"] for one in json.load(answer)["data"]] == ["base", "north", "south"]
        except OSError:
            return False

    eventually(answers, "vLLM serves the base and both adapters", READY_SECONDS)
    tokens = AutoTokenizer.from_pretrained(base)("red green blue one two three cat dog")["input_ids"]
    told = {name: server.log_probabilities(name, tokens) for name in ("base", "north", "south")}
    wanted = {"base": None, "north": tmp_path / "north/adapter", "south": tmp_path / "south/adapter"}
    for name, folder in wanted.items():
        assert max(abs(a - b) for a, b in zip(told[name], reference(base, folder, tokens), strict=True)) < 1e-3
    for one, other in (("base", "north"), ("base", "south"), ("north", "south")):
        assert max(abs(a - b) for a, b in zip(told[one], told[other], strict=True)) > 1e-2
