"""Files as users write them: YAML's traps are named."""

from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from finetune_operator.api.job_rules import NAME_MESSAGE
from finetune_operator.cli.manifest_file import ManifestInvalid, parse_job, parse_pools, read_job, read_pools, text_of
from finetune_operator.errors import FinetuneError

JOB = """
apiVersion: finetune.dev/v1alpha1
kind: FineTuneJob
metadata:
  name: tiny
  namespace: team-a
spec:
  model: {source: hf://org/model}
  datasets:
    - source: s3://bucket/train.jsonl
  output: {destination: s3://bucket/out}
"""
POOL = """
apiVersion: finetune.dev/v1alpha1
kind: GPUPool
metadata: {name: h100}
spec:
  gpuType: NVIDIA-H100-80GB-HBM3
  gpusPerNode: 8
  maxNodes: 1
  node: {cpus: 8, memoryGiB: 64, ephemeralGiB: 100}
  pricePerGPUHourUSD: "2.50"
"""


def refusal(text):
    """Return what parse_job says about a bad text."""
    with pytest.raises(ManifestInvalid) as caught:
        parse_job(text)
    return str(caught.value)


def named(name: str, namespace: object = "team-a") -> str:
    """Return the job under another name."""
    return JOB.replace("tiny", name).replace("team-a", str(namespace))


def test_a_short_file_is_a_good_file():
    """Ten lines are enough, and the defaults are there."""
    job = parse_job(JOB)

    assert (job.name, job.namespace, job.spec.lora.rank, job.spec.evaluation.fraction) == ("tiny", "team-a", 16, "0.05")


@pytest.mark.parametrize("written", ["2e-4", "0.0002", "2.0E-4", "1"])
def test_a_number_without_quotes_is_shown_as_it_was_written(written):
    """kubectl reads all of these as numbers; PyYAML would read the first as a string."""
    text = JOB + f"  training: {{learningRate: {written}}}\n"

    assert f'spec.training.learningRate: is a number: write it in quotes, "{written}"' == refusal(text)


def test_a_quoted_number_is_taken_as_written():
    """The string reaches the spec unchanged."""
    assert parse_job(JOB + '  training: {learningRate: "2e-4"}\n').spec.training.learning_rate == "2e-4"


def test_a_key_without_value_is_an_absent_key():
    """As the API server reads it."""
    assert parse_job(JOB + "  runPolicy:\n    maxRetries:\n").spec.run_policy.max_retries == 3


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('  learningRate: "2e-4"\n', "spec.learningRate: unknown field: did you mean spec.training.learningRate?"),
        ("  lora: {rnak: 8}\n", "spec.lora.rnak: unknown field: did you mean spec.lora.rank?"),
        (
            "  lora: {target_modules: [q]}\n",
            "spec.lora.target_modules: unknown field: did you mean spec.lora.targetModules?",
        ),
        ("  batchSize: 8\n", "spec.batchSize: unknown field: did you mean spec.training.globalBatchSize?"),
        ("  wandb: x\n", "spec.wandb: unknown field: see docs/api.md for the fields"),
    ],
)
def test_an_unknown_field_is_named_with_the_one_that_was_meant(written: str, said: str):
    """Strict, as kubectl is; a field in the wrong struct and a misspelt one are recognised."""
    assert refusal(JOB + written) == said


def test_a_misspelt_field_of_a_list_item_is_recognised():
    """The item's number is the user's, not the schema's."""
    misspelt = JOB.replace("- source: ", "- sorce: ")
    assert "spec.datasets[0].sorce: unknown field: did you mean spec.datasets[].source?" in refusal(misspelt)


def test_a_key_written_twice_is_refused():
    """The second would silently win, of a field and of a whole part of the file."""
    assert refusal(JOB + "  suspend: true\n  suspend: false\n") == (
        f"file: suspend is written in line {JOB.count(chr(10)) + 1} and again in line {JOB.count(chr(10)) + 2}: keep one of them"
    )
    assert refusal("kind: FineTuneJob\nspec: {method: lora, method: full}\n") == (
        "file: method is written twice in line 2: keep one of them"
    )


def test_a_tab_is_named():
    """It looks like spaces in an editor."""
    assert refusal("spec:\n\tmethod: lora\n") == (
        "file: is not YAML: a tab stands where YAML allows spaces only (line 2, column 1)"
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_file_of_windows_is_read(encoding: str, tmp_path: Path):
    """With its line ends and a byte order mark; PowerShell's > writes UTF-16."""
    (tmp_path / "job.yaml").write_bytes(JOB.replace("\n", "\r\n").encode(encoding))

    assert read_job(tmp_path / "job.yaml").spec == parse_job(JOB).spec


def test_a_name_that_is_far_too_long_is_refused_by_the_rule_of_names():
    """Longer than the API server keeps any name."""
    assert refusal(named("a" * 300)) == refusal(named("a" * 53)) == f"metadata.name: {NAME_MESSAGE}"


def test_metadata_that_is_no_text_is_refused():
    """YAML reads a namespace of digits as a number."""
    assert refusal(named("a", 5)) == 'metadata.namespace: is a number: write it in quotes, "5"'
    assert refusal(named("a", "[b]")) == "metadata.namespace: input should be a valid string, not ['b']"


def test_a_long_value_is_not_repeated_in_full():
    """The refusal of a page of text would scroll its reason away."""
    assert refusal(JOB + f"  queueName: {'q' * 5000}\n") == (
        "spec.queueName: has 5,000 characters, and at most 253 are allowed"
    )
    assert refusal(JOB + f"  method: {'q' * 5000}\n") == (
        f"spec.method: input should be 'auto', 'lora', 'qlora' or 'full', not '{'q' * 199}..."
    )


def test_text_that_is_no_yaml_is_refused():
    """The parser's own words, and where; a text without end is no crash."""
    assert refusal("a: [") == (
        "file: is not YAML: while parsing a flow node, expected the node content, but found '<stream end>' (line 1, column 5)"
    )
    assert refusal("[" * 5000) == "file: is nested too deeply to be a manifest"


def test_aliases_that_unfold_without_end_are_refused():
    """Thirty lines may stand for a billion values, by lists or by merged keys; a value may not hold itself."""
    lists = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
    merged = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 30))

    assert refusal(lists) == (
        "file: is not YAML: its aliases stand for 4,294,967,293 values, and at most 1,000,000 are read (line 1, column 1)"
    )
    assert "values, and at most 1,000,000 are read" in refusal(merged)
    assert refusal("spec: &spec {model: *spec}") == (
        "file: is not YAML: an alias stands inside of what it names (line 1, column 7)"
    )


def test_an_alias_is_read():
    """As kubectl does."""
    text = JOB + "  podMetadata:\n    labels: &same [{key: a, value: b}]\n    annotations: *same\n"

    assert [one.key for one in parse_job(text).spec.pod_metadata.annotations] == ["a"]


def test_a_file_holds_one_job():
    """Which of two would be planned?"""
    assert refusal(JOB + "---" + JOB) == "file: contains 2 FineTuneJobs, not exactly one"
    assert refusal(POOL) == "file: contains no FineTuneJob (only GPUPool)"
    assert refusal("") == "file: contains no FineTuneJob"


def test_a_kind_in_other_letters_is_pointed_out():
    """FinetuneJob and FineTuneJob look alike at two in the morning."""
    assert refusal(JOB.replace("FineTuneJob", "FinetuneJob")) == "kind: must be FineTuneJob, not FinetuneJob"


def test_the_file_is_named(tmp_path: Path):
    """In a folder of pools nobody could tell which one is wrong; a job is in the one file that was given."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(POOL.replace("gpuType", "gpuTpye"))
    with pytest.raises(ManifestInvalid) as pools:
        read_pools(bad)
    with pytest.raises(ManifestInvalid) as no_job:
        read_job(bad)
    bad.write_text(JOB.replace("spec:", "spec:\n  method: QLora"))
    with pytest.raises(ManifestInvalid) as job:
        read_job(bad)

    assert str(pools.value).splitlines() == [
        f"{bad}: spec.gpuType: is missing",
        f"{bad}: spec.gpuTpye: unknown field: did you mean spec.gpuType?",
    ]
    assert str(no_job.value) == f"{bad}: contains no FineTuneJob (only GPUPool)"
    assert str(job.value).startswith("spec.method: ")


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch):
    """`helm template ... | finetune plan -f -`, as kubectl takes it."""
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(JOB.encode())))
    assert read_job(Path("-")).name == "tiny"

    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"a: [")))
    with pytest.raises(ManifestInvalid, match=r"^standard input: is not YAML"):
        read_job(Path("-"))


def test_other_documents_are_skipped():
    """A job often comes with its claim and its Secret."""
    assert parse_job("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n---" + JOB).name == "tiny"


def test_another_version_is_refused():
    """An old file says what to write."""
    text = JOB.replace("finetune.dev/v1alpha1", "finetune.dev/v1")

    assert refusal(text) == "apiVersion: must be finetune.dev/v1alpha1, not finetune.dev/v1"


def test_a_commit_id_of_digits_keeps_its_zero_in_the_advice():
    """Without it the id would be another one, of 39 digits."""
    commit = "0123456789012345678901234567890123456789"
    text = JOB.replace("{source: hf://org/model}", f"{{source: hf://org/model, revision: {commit}}}")

    assert refusal(text) == f'spec.model.revision: is a number: write it in quotes, "{commit}"'


def test_a_job_needs_a_name():
    """generateName makes a name on the server only."""
    assert refusal(JOB.replace("name: tiny", "generateName: t-")) == "metadata.name: is missing"


def test_a_name_that_is_a_number_asks_for_quotes():
    """`name: 2024` is a number for YAML and for the API server."""
    assert (
        refusal(JOB.replace("name: tiny", "name: 2024"))
        == 'metadata.name: must be a string: write it in quotes, "2024"'
    )


def test_a_job_without_spec_says_so():
    """Not pydantic's words about None."""
    assert refusal(JOB.partition("spec:")[0]) == "spec: is missing: see docs/api.md for its fields"


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    """A folder, a missing file and bytes that are not UTF-8 end with a sentence."""
    (tmp_path / "bytes.yaml").write_bytes(b"a\xff")
    said = []
    for name in ("", "none.yaml", "bytes.yaml"):
        with pytest.raises(FinetuneError) as caught:
            text_of(tmp_path / name)
        said.append(str(caught.value).replace(str(tmp_path), "DIR"))

    assert said == [
        "DIR cannot be read: Is a directory",
        "DIR/none.yaml cannot be read: No such file or directory",
        "DIR/bytes.yaml is not UTF-8 text (byte 1): save it as UTF-8",
    ]


def test_pools_are_read_from_documents_and_lists():
    """`kubectl get gpupools -o yaml` prints a List."""
    items = "\n".join("  " + line for line in POOL.strip().splitlines())
    as_list = "apiVersion: v1\nkind: List\nitems:\n-" + items[1:]

    assert [pool.key for pool in parse_pools(POOL + "---" + POOL)] == ["h100", "h100"]
    assert [pool.key for pool in parse_pools(as_list)] == ["h100"]


def test_a_pool_needs_a_name_that_kubernetes_takes():
    """Else the plan, which repeats it, could not be written."""
    with pytest.raises(ManifestInvalid) as caught:
        parse_pools(POOL.replace("h100", "My H100", 1))

    assert str(caught.value) == (
        "metadata.name: must be a valid Kubernetes object name: lower-case letters, digits, - and ., such as team-a"
    )


def test_a_file_without_pools_says_where_to_get_them():
    """An empty plan would be a riddle."""
    with pytest.raises(ManifestInvalid) as caught:
        parse_pools(JOB)

    assert str(caught.value) == "file: contains no GPUPool: `kubectl get gpupools -o yaml` prints those of a cluster"
