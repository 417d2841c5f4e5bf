"""Values that users write, with the rules of each by itself: decimals with their range, names with their shape."""

from typing import Annotated

from pydantic import StringConstraints

from finetune_operator.api.cel import Bounds, Checked, decimal, matching, not_matching
from finetune_operator.api.fields import DECIMAL_PATTERN, NUMBER_PATTERN

DecimalText = StringConstraints(max_length=24)
SIGNED_PATTERN = "^-?(0|[1-9][0-9]{0,11})([.][0-9]{1,10})?$"
LearningRate = Annotated[str, DecimalText, Checked(decimal(NUMBER_PATTERN, Bounds(above=0, most=1), "2e-4"))]
Weight = Annotated[str, DecimalText, Checked(decimal(NUMBER_PATTERN, Bounds(above=0, most=1_000_000), "2.0"))]
AdapterWeight = Annotated[
    str, DecimalText, Checked(decimal(SIGNED_PATTERN, Bounds(least=-1_000_000, most=1_000_000), "0.5"))
]
Density = Annotated[str, DecimalText, Checked(decimal(DECIMAL_PATTERN, Bounds(above=0, most=1), "0.5"))]
Dropout = Annotated[str, DecimalText, Checked(decimal(DECIMAL_PATTERN, Bounds(least=0, below=1), "0.05"))]
HalfFraction = Annotated[str, DecimalText, Checked(decimal(DECIMAL_PATTERN, Bounds(least=0, most=0.5), "0.05"))]
Share = Annotated[str, DecimalText, Checked(decimal(DECIMAL_PATTERN, Bounds(least=0, below=1), "0.02"))]
WeightDecay = Annotated[str, DecimalText, Checked(decimal(DECIMAL_PATTERN, Bounds(least=0, most=1), "0.1"))]
GradNorm = Annotated[str, DecimalText, Checked(decimal(DECIMAL_PATTERN, Bounds(least=0, most=1000), "1.0"))]
NeftuneAlpha = Annotated[str, DecimalText, Checked(decimal(DECIMAL_PATTERN, Bounds(least=0, most=100), "5"))]
LossDelta = Annotated[str, DecimalText, Checked(decimal(DECIMAL_PATTERN, Bounds(least=0, most=100), "0.01"))]
Money = Annotated[str, DecimalText, Checked(decimal(DECIMAL_PATTERN, Bounds(above=0, most=100_000_000), "200.00"))]

LABEL = matching("^[^ ].*[^ ]$|^[^ ]$", "must be a label without leading or trailing spaces")
COLUMN = matching("^[^ ].*[^ ]$|^[^ ]$", "must be a column name without leading or trailing spaces")
CONFIG = matching("^[A-Za-z0-9_.-]+$", "must be the name of a configuration of the data card, such as main")
ARGUMENT = matching("^[A-Za-z_][A-Za-z0-9_]*$", "must be a variable of the chat template, such as enable_thinking")
PLACEHOLDER = matching("[{][^{}]+[}]", "must name at least one column in braces, such as {question}")
MODULE = matching("^[A-Za-z_][A-Za-z0-9_.]*$", "must be a module name of the model, such as q_proj")
REVISION = matching("^[A-Za-z0-9][A-Za-z0-9._/-]*$", "must be a commit, tag or branch on the hub, such as main")
SPLIT = matching("^[A-Za-z0-9_.-]+$", "must be the name of a split, such as train")

Revision = Annotated[str, StringConstraints(max_length=128), Checked(REVISION)]
Split = Annotated[str, StringConstraints(max_length=64), Checked(SPLIT)]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=128), Checked(COLUMN)]
ConfigName = Annotated[str, StringConstraints(min_length=1, max_length=128), Checked(CONFIG)]
RoleWord = Annotated[str, StringConstraints(min_length=1, max_length=64)]
PromptTemplate = Annotated[str, StringConstraints(min_length=1, max_length=4096), Checked(PLACEHOLDER)]
ArgumentName = Annotated[str, StringConstraints(min_length=1, max_length=64), Checked(ARGUMENT)]
ModuleName = Annotated[str, StringConstraints(min_length=1, max_length=128), Checked(MODULE)]
METRIC = matching("^[A-Za-z][A-Za-z0-9-]*$", "must be a name of letters, digits and -, such as accuracy")
METRIC_TARGET = matching(
    "^[A-Za-z][A-Za-z0-9-]*([.][A-Za-z0-9]+)?$", "must be the name of a metric, such as accuracy or label.macroF1"
)
ENDPOINT = matching(
    "^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$",
    "must be a URL without query and user, such as https://api.openai.com/v1",
)
NUMBERED = not_matching(
    "(?i)^https?://(169[.]254[.]|100[.]100[.]100[.]200|168[.]63[.]129[.]16|([0-9.]*[.])?0[0-9]+[.:/]|[0-9.]*0x|[0-9]+([.][0-9]+){0,2}[.]?(:|/|$)"
    "|metadata([.]google[.]internal)?[.]?(:|/|$))",
    "must not lead to the metadata of the cloud, and an address must be four decimal numbers: use the name of the server",
)
Endpoint = Annotated[str, StringConstraints(max_length=1024), Checked(ENDPOINT, NUMBERED)]
MetricName = Annotated[str, StringConstraints(min_length=1, max_length=32), Checked(METRIC)]
MetricTarget = Annotated[str, StringConstraints(min_length=1, max_length=48), Checked(METRIC_TARGET)]
TASK = matching("^[A-Za-z0-9][A-Za-z0-9_.:-]*$", "must be the name of a task of lm-eval, such as arc_easy")
TASK_METRIC = matching(
    "^[A-Za-z][A-Za-z0-9_+-]*(,[A-Za-z0-9][A-Za-z0-9_.-]*)?$",
    "must be a metric of a task of lm-eval, such as acc_norm or exact_match,strict-match",
)
TaskName = Annotated[str, StringConstraints(min_length=1, max_length=128), Checked(TASK)]
TaskMetric = Annotated[str, StringConstraints(min_length=1, max_length=128), Checked(TASK_METRIC)]
LabelText = Annotated[str, StringConstraints(min_length=1, max_length=128), Checked(LABEL)]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=1024)]

LABEL_KEY = matching(
    "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$",
    "must be a valid label key, such as nvidia.com/gpu.product",
)
TAINT_KEY = matching(
    "^$|^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$",
    "must be a valid taint key, such as nvidia.com/gpu, or empty to match every taint",
)
LABEL_VALUE = matching(
    "^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$",
    "must be a valid label value: letters, digits, -, _ and ., starting and ending with a letter or digit",
)
RESOURCE = matching(
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$",
    "must be an extended resource name with a domain, such as nvidia.com/gpu",
)
GPU_TYPE = matching(
    "^[A-Za-z0-9][A-Za-z0-9._-]*$",
    "must be the name of a GPU, such as NVIDIA-H100-80GB-HBM3; `finetune gpus` lists the known ones",
)
LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317), Checked(LABEL_KEY)]
LabelValue = Annotated[str, StringConstraints(max_length=63), Checked(LABEL_VALUE)]
TaintKey = Annotated[str, StringConstraints(max_length=317), Checked(TAINT_KEY)]
ResourceName = Annotated[str, StringConstraints(min_length=1, max_length=128), Checked(RESOURCE)]
GpuTypeName = Annotated[str, StringConstraints(min_length=1, max_length=64), Checked(GPU_TYPE)]
GpuMemory = Annotated[str, DecimalText, Checked(decimal(DECIMAL_PATTERN, Bounds(above=0, most=4096), "79.1"))]
Price = Annotated[str, DecimalText, Checked(decimal(DECIMAL_PATTERN, Bounds(least=0, most=10_000), "2.50"))]
