"""`finetune plan`: the page that people read, the JSON that scripts read."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from finetune_operator.api.plan import Plan
from finetune_operator.api.resolved import ResolvedSpec
from finetune_operator.cli.plan import command
from finetune_operator.cli.plan_data import Assumptions, assumed_facts, supposed_preflight
from finetune_operator.cli.plan_model import model_shape
from finetune_operator.cli.plan_page import Asked, in_lines
from finetune_operator.errors import DoesNotFit, FinetuneError
from finetune_operator.planning.layouts import GPU_PUBLISH_SECONDS

from tests.golden.plans import GOLDEN_PAGE, PAGE_EXAMPLE, ROOT, page_text
from tests.unit.planning.planning_builders import LLAMA_8B, a_llama, a_spec

JOB = ROOT / "examples/03-qlora-70b/job.yaml"


def test_the_page_reads_as_before():
    """`make goldens` writes it anew."""
    assert page_text(ROOT / "examples" / PAGE_EXAMPLE) == GOLDEN_PAGE.read_text()


def test_json_holds_the_plan_and_the_resolved_spec(capsys: pytest.CaptureFixture[str]):
    """The same objects that status.plan and status.resolved would hold."""
    command(file=JOB, output="json")
    printed = json.loads(capsys.readouterr().out)

    assert sorted(printed) == ["assumed", "plan", "resolved"]
    assert printed["plan"]["method"] == printed["resolved"]["method"] == "qlora"
    assert printed["resolved"]["training"]["globalBatchSize"] == printed["plan"]["globalBatchSize"]


def test_the_printed_spec_and_plan_can_be_read_back(capsys: pytest.CaptureFixture[str]):
    """With and without a revision in the job: scripts feed what was printed to the same types."""
    for options in ({"model": "meta-llama/Llama-3.1-8B"}, {"file": JOB}):
        command(**options, output="json")
        printed = json.loads(capsys.readouterr().out)
        resolved = ResolvedSpec.model_validate(printed["resolved"])

        assert resolved.model_dump() == printed["resolved"]
        assert Plan.model_validate(printed["plan"]).model_dump() == printed["plan"]


def test_built_in_pools_are_named_with_the_source_of_their_prices(capsys: pytest.CaptureFixture[str]):
    """Whoever is given no pools must see whose prices these are."""
    command(file=ROOT / "examples/02-lora-s3/job.yaml")

    assert "built-in pools; prices: skypilot-catalog v8" in capsys.readouterr().out


def test_what_does_not_fit_is_refused_with_remedies():
    """The same message that the condition Planned would show."""
    pools = str(ROOT / "examples/01-first-fine-tune/pool.yaml")
    with pytest.raises(DoesNotFit, match=r"\nthis would fit:\n  method "):
        command(file=ROOT / "examples/04-full-fine-tune/job.yaml", pools=pools)


def test_a_model_alone_is_enough(capsys: pytest.CaptureFixture[str]):
    """Before there is a file, or a cluster: the first question is what a model would take."""
    command(model="meta-llama/Llama-3.1-70B", method="qlora", output="json")
    printed = json.loads(capsys.readouterr().out)

    assert (printed["plan"]["method"], printed["plan"]["methodReason"]) == ("qlora", "set in spec.method")
    assert printed["plan"]["steps"] == 177


def test_a_model_is_published_as_the_operator_is_set(capsys: pytest.CaptureFixture[str]):
    """By a Pod without GPUs from 60 s on; where the operator is set otherwise, with the same option."""
    full = {"model": "meta-llama/Llama-3.1-8B", "method": "full"}
    exports = []
    for options in (
        {},
        {"gpu_publish_seconds": GPU_PUBLISH_SECONDS},
        {"gpu_publish_seconds": 86400},
        {"gpu_publish_seconds": 0},
    ):
        command(**full, **options, output="json")
        exports.append(json.loads(capsys.readouterr().out)["plan"].get("export"))
    command(**full)
    command(**full, gpu_publish_seconds=86400)
    pages = capsys.readouterr().out

    assert Asked().gpu_publish_seconds == GPU_PUBLISH_SECONDS
    assert exports[0]["publishes"]
    assert exports == [exports[0], exports[0], None, exports[0]]
    assert pages.count("on a Pod without GPUs") == 1


def test_rows_that_the_model_has_no_positions_for_are_pointed_out(capsys: pytest.CaptureFixture[str]):
    """Preflight refuses them by the model's own config.json; offline the catalogue's is all there is."""
    command(file=JOB, model="microsoft/phi-2")

    assert capsys.readouterr().err == (
        "finetune: training.sequenceLength 4,096 exceeds the 2,048 positions of this model in the catalogue: preflight "
        "refuses the job if config.json has the same limit\n"
    )


@pytest.mark.parametrize(
    ("tokens", "said"), [(1000, "up to 4,096 per row"), (2000, "up to 4,096 per row; longer rows are truncated")]
)
def test_rows_that_are_cut_are_told(tokens: int, said: str, capsys: pytest.CaptureFixture[str]):
    """A plan for fewer tokens than the data has must say so."""
    command(file=JOB, tokens_per_example=tokens)

    assert next(line for line in capsys.readouterr().out.splitlines() if line.startswith("data")).endswith(said)


def test_alternatives_past_a_limit_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Else a cheaper plan than the chosen one looks like a mistake."""
    file = tmp_path / "job.yaml"
    limits = 'activeDeadlineSeconds: 3600\n    budget: {maxCostUSD: "27.50"}'
    file.write_text(JOB.read_text().replace("activeDeadlineSeconds: 172800", limits))
    command(file=file)
    lines = capsys.readouterr().out.splitlines()
    others = [line.rpartition("  ")[2] for line in lines if "pool h100)" in line]

    assert others == [
        "3 h 55 min, past the deadline",
        "23 min",
        "43 min",
        "43 min, over budget",
    ]


def test_the_bar_fits_a_narrow_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Broken in two it is no bar."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("NO_COLOR", "1")
    command(file=JOB)
    bar = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("memory"))

    assert len(bar) <= 50


def test_a_folder_of_pools_is_taken_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As kubectl takes it; a folder without pools is a mistake."""
    command(file=JOB, pools=str(ROOT / "examples/gpupools"), output="json")
    printed = json.loads(capsys.readouterr().out)["plan"]

    assert "qlora on 1 x A100-SXM4-80GB (pool a100-spot)" in [other["summary"] for other in printed["alternatives"]]
    with pytest.raises(FinetuneError, match="contains no YAML files"):
        command(file=JOB, pools=str(tmp_path))


def test_pools_of_one_name_are_refused(tmp_path: Path):
    """The cluster has one of each name; whose price would the plan's be?"""
    pool = (ROOT / "examples/gpupools/h100.yaml").read_text()
    (tmp_path / "one.yaml").write_text(pool)
    (tmp_path / "two.yaml").write_text(pool.replace("2.50", "1.50"))

    with pytest.raises(FinetuneError, match="contains several GPUPools named h100: names must be unique"):
        command(file=JOB, pools=str(tmp_path))


def test_without_a_file_or_a_model_there_is_nothing_to_plan():
    """The message names both ways; a method beside a file would contradict it."""
    with pytest.raises(typer.BadParameter) as nothing:
        command()
    with pytest.raises(typer.BadParameter) as twice:
        command(file=JOB, method="lora")

    assert nothing.value.message == (
        "nothing to plan: pass a job with --file, or a model with --model (`finetune models` lists them)"
    )
    assert twice.value.message == f"--method cannot be combined with --file: set spec.method in {JOB}"


def test_an_unknown_model_is_refused():
    """The message names the two ways out."""
    with pytest.raises(FinetuneError) as refused:
        model_shape(a_spec(model={"source": "hf://acme/secret-7b"}), "")

    assert str(refused.value) == (
        "model acme/secret-7b is not in the catalogue. Pass a name from `finetune models` or the path of a config.json as --model"
    )


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "hf://meta-llama/Llama-3.1-8B", "meta-llama/llama-3.1-8b/"])
def test_a_model_is_known_by_the_ways_people_write_it(name: str, capsys: pytest.CaptureFixture[str]):
    """With and without its organisation and hf://; the resolved spec names its place on the hub."""
    command(model=name, output="json")

    assert json.loads(capsys.readouterr().out)["resolved"]["model"]["source"] == "hf://meta-llama/Llama-3.1-8B"


def test_a_model_that_is_nearly_known_is_named():
    """A typo is seen at once; a name of one word is no crash."""
    with pytest.raises(FinetuneError) as near:
        command(model="meta-llama/Llama-31-8B")
    with pytest.raises(FinetuneError) as far:
        command(model="gpt2")

    assert str(near.value).startswith(
        "model meta-llama/Llama-31-8B is not in the catalogue. Did you mean meta-llama/Llama-3.1-8B, "
    )
    assert str(far.value).startswith("model gpt2 is not in the catalogue. Pass a name from `finetune models`")


def test_large_figures_are_grouped(capsys: pytest.CaptureFixture[str]):
    """As everywhere else on the page: 2,113 GiB of disk is seen at once not to be 211."""
    command(model="Llama-3.1-70B", method="full", pools=str(ROOT / "examples/gpupools"))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("checkpoint", "each Pod"))]

    assert len(lines) == 2
    assert re.findall(r"\b\d{4,}\b", " ".join(lines)) == []


def test_a_model_on_this_machine_is_read_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """From a folder, or from the hub's cache: a model that the catalogue lacks is planned without a network."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    kept = tmp_path / "hub/models--org--unheard-of/snapshots/abc"
    kept.mkdir(parents=True)
    folder = tmp_path / "models/mine"
    folder.mkdir(parents=True)
    for place in (kept, folder):
        (place / "config.json").write_text(json.dumps(LLAMA_8B))

    for name in ("org/unheard-of", "hf://org/unheard-of", str(folder)):
        command(model=name)
        assert "lora on" in capsys.readouterr().out


def test_a_model_of_another_family_or_size_is_not_suggested():
    """A plan for the wrong model looks right: no suggestion is better than Falcon-7B for Falcon3-Mamba, or 8B for 80B."""
    for name in ("org/Llama-3.1-80B", "org/Qalcon-7B"):
        with pytest.raises(FinetuneError) as unknown:
            command(model=name)
        assert "Did you mean" not in str(unknown.value)


def test_a_pool_that_cannot_be_planned_with_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Else its GPUs would be missing from the page without a word, because another pool fits."""
    known = (ROOT / "examples/gpupools/h100.yaml").read_text()
    unknown = known.replace("name: h100", "name: new").replace("NVIDIA-H100-80GB-HBM3", "NVIDIA-H999", 1)
    (tmp_path / "pools.yaml").write_text(f"{known}\n---\n{unknown}")
    command(model="Llama-3.1-8B", pools=str(tmp_path / "pools.yaml"))

    assert capsys.readouterr().err == (
        "finetune: pool new is ignored: gpuType NVIDIA-H999 is not in the catalogue (`finetune gpus`): set memoryGiB in "
        "the pool\n"
    )


def test_models_of_a_series_are_named_before_those_spelt_like_it():
    """gemma-2-9b is spelt more like `gemma-3` than gemma-3-4b-pt is."""
    with pytest.raises(
        FinetuneError,
        match=r"model gemma-3 is not in the catalogue\. Did you mean google/gemma-3-1b-pt, .*-27b-pt, google/gemma-3-270m\? Pass",
    ):
        command(model="gemma-3")


def test_a_config_json_without_a_job_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Whatever its folder is called."""
    file = tmp_path / "my model (v2)" / "config.json"
    file.parent.mkdir()
    file.write_text(a_llama().config)
    command(model=str(file), output="json")

    assert json.loads(capsys.readouterr().out)["resolved"]["model"]["source"] == "hf://local/my-model-v2"


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("meta-llama/Llama-3.1-8B", "varlen: rows lie end to end, without padding or masks"),
        ("google/gemma-2-9b", "eager: scores are written out, because its attention caps scores or has sinks"),
        (
            "tiiuae/falcon-7b",
            "sdpa: rows are padded or have a mask, because transformers' Falcon calls its own attention",
        ),
    ],
)  # fmt: skip
def test_the_attention_is_explained(model: str, line: str, capsys: pytest.CaptureFixture[str]):
    """Which one, and why not the one without masks."""
    command(model=model, method="qlora", explain=True)

    assert f"attention     {line}" in capsys.readouterr().out.splitlines()


def test_a_very_slow_run_is_explained_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Less than one token a second is a speed: 70 billion parameters on a laptop's CPU."""
    pools = tmp_path / "pool.yaml"
    laptop = (ROOT / "examples/01-first-fine-tune/pool.yaml").read_text()
    pools.write_text(
        laptop.replace('"16"', '"64"').replace("memoryGiB: 32, ephemeralGiB: 100", "memoryGiB: 512, ephemeralGiB: 900")
    )
    command(model="meta-llama/Llama-3.1-70B", method="qlora", pools=str(pools), explain=True)

    speed = re.search(r"training at (0\.\d+) tokens/s", capsys.readouterr().out)
    assert speed
    assert 0 < float(speed[1]) < 0.5


def test_a_config_json_will_do(tmp_path: Path):
    """What the catalogue does not know can be given."""
    file = tmp_path / "config.json"
    file.write_text(a_llama().config)

    assert model_shape(a_spec(), str(file)) == a_llama()


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({}, {"examples": 950, "evaluation_examples": 50, "sequence_length": 1088, "tokens": 380_000}),
        ({"evaluation": {"fraction": "0"}}, {"examples": 1000, "evaluation_examples": 0}),
        ({"training": {"sequenceLength": 256}}, {"sequence_length": 256, "tokens": 950 * 256}),
        ({"objective": "cpt"}, {"sequence_length": 4096}),
    ],
)
def test_what_preflight_would_have_found(spec: dict[str, Any], found: dict[str, Any]):
    """Offline the data is described: 1,000 rows of 400 tokens."""
    supposed = supposed_preflight(a_spec(**spec), a_llama(), Assumptions(examples=1000, tokens_per_example=400))

    assert {name: getattr(supposed, name) for name in found} == found


def test_documents_of_lm_eval_are_left_out_of_a_plan_without_a_preflight():
    """Nobody has read the task yet, and the page says so; other metrics are counted as ever."""
    task = {"type": "lmEval", "name": "routing", "lmEval": {"source": "s3://team-a/tasks", "task": "t"}}
    evaluation = {"metrics": [task, {"type": "exactMatch"}, {"type": "label"}]}
    facts = assumed_facts(a_spec(evaluation=evaluation), a_llama(), 1000, 400)

    assert (facts.preflight.generated_answers, facts.preflight.label_answers, facts.preflight.task_tokens) == (
        50,
        100,
        0,
    )
    assert facts.assumed[-1] == "the time for routing (lm-eval) is left out; preflight counts the documents"


LOADED = """
import contextlib, io, sys
from finetune_operator.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print(*sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names - {"__mp_main__"}))
print("asyncio" in sys.modules)
"""


def test_planning_imports_nothing_that_it_does_not_need():
    """Half a second from the shell is mostly imports: one of rich, kubernetes or numpy would be seen here first."""
    command_line = [sys.executable, "-c", LOADED, "plan", "-f", str(ROOT / "examples/02-lora-s3/job.yaml")]
    loaded, uses_asyncio = subprocess.run(command_line, check=True, capture_output=True, text=True).stdout.splitlines()

    outside = {name for name in loaded.split() if not name.startswith(("_", "finetune_"))}
    assert outside == {
        "annotated_doc", "annotated_types", "pydantic", "pydantic_core", "ruamel", "shellingham", "typer",
        "typing_extensions", "typing_inspection",
    }  # fmt: skip
    assert uses_asyncio == "False"


def test_a_pipe_gets_whole_lines_without_colours(capsys: pytest.CaptureFixture[str]):
    """grep must find a whole warning, and no escape sequences around it."""
    command(file=JOB)
    printed = capsys.readouterr().out

    assert "\x1b" not in printed
    assert [line for line in printed.splitlines() if line.endswith(" ")] == []
    assert "confidence medium: few published runs on H100 or later GPUs" in printed


def test_no_color_is_obeyed_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """no-color.org: whoever sets NO_COLOR wants no escape sequences, whatever the output is."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    command(file=JOB)
    coloured = capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    command(file=JOB)

    assert "\x1b[" in coloured
    assert "\x1b[" not in capsys.readouterr().out


def test_a_refusal_has_one_remedy_a_line():
    """Four remedies in one sentence are a wall of text in a terminal."""
    said = "full on 1 x L4 needs 24 GiB, L4 has 22; would fit: method lora (lora on 1 x L4, $3.08); maxNodes 6 in pool l4 (...)"

    assert in_lines(said).splitlines() == [
        "full on 1 x L4 needs 24 GiB, L4 has 22",
        "this would fit:",
        "  method lora (lora on 1 x L4, $3.08)",
        "  maxNodes 6 in pool l4 (...)",
    ]
    assert in_lines("no GPUPool matches spec.resources") == "no GPUPool matches spec.resources"


def test_a_namespace_is_that_of_a_job():
    """A plan of a model alone has no namespace whose limits it could keep."""
    with pytest.raises(typer.BadParameter) as refusal:
        command(model="Qwen/Qwen2.5-7B", namespace="team-a")

    assert str(refusal.value) == "-n names the namespace of the job in --file: add --file, or leave out -n"


@pytest.mark.parametrize(
    ("pools", "does"),
    [
        ("", "uses the built-in pools and knows no quotas and no policy of the namespace"),
        ("examples/gpupools", "knows no quotas and no policy of the namespace"),
    ],
)
def test_a_cluster_that_cannot_be_read_is_told_with_what_the_plan_lacks(
    pools: str, does: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Pools that were given are not said to be the built-in ones."""
    (tmp_path / "config").write_text(
        json.dumps(
            {
                "current-context": "x",
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [],
            }
        )
    )
    command(
        file=ROOT / "examples" / PAGE_EXAMPLE / "job.yaml",
        pools=str(ROOT / pools) if pools else "",
        kubeconfig=str(tmp_path / "config"),
    )

    assert capsys.readouterr().err.splitlines()[0] == (
        f"finetune: the cluster of {tmp_path}/config cannot be read, so the plan {does}: cannot reach the API server at "
        "http://127.0.0.1:1: connection refused. Start the cluster, or choose another one with --kubeconfig or --context"
    )
