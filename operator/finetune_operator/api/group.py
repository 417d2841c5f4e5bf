"""The API group and the names derived from it. A fork changes it here and nowhere else."""

GROUP = "finetune.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

JOB_KIND = "FineTuneJob"
JOB_PLURAL = "finetunejobs"
POOL_KIND = "GPUPool"
POOL_PLURAL = "gpupools"
POLICY_KIND = "FineTunePolicy"
POLICY_PLURAL = "finetunepolicies"
PLAN_KIND = "FineTunePlan"
PLAN_PLURAL = "finetuneplans"
