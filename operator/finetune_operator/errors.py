"""Every error we raise on purpose, told apart by who must act.

FinetuneError
├── JobError             the user must change the job; retrying is useless
│   └── DoesNotFit       the planner's refusal, with the nearest things that would fit
├── ClusterUnavailable   nobody must act; try again after a while
│   ├── Unauthorized     the API server does not know who asks
│   └── ServerFailed     the API server answers with an error of its own, or of a webhook
├── Conflict             somebody wrote first; look again
├── NameConflict         a stranger's object has the name of one of our children
├── Forbidden            the API server refuses (quota, RBAC, admission); the message says what
└── LocalClusterError    the local cluster cannot start; the message says what is missing
"""


class FinetuneError(Exception):
    """The root: catch it where errors become conditions or exit codes, nowhere else."""


class JobError(FinetuneError):
    """The user must change the job; retrying is useless. `reason` is a terminal reason of api.reasons."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class DoesNotFit(JobError):
    """The planner's refusal. The message holds need, supply and what would fit."""

    def __init__(self, message: str) -> None:
        super().__init__("DoesNotFit", message)


class ClusterUnavailable(FinetuneError):
    """The API server cannot be reached or is overloaded; nobody must act."""


class Unauthorized(ClusterUnavailable):
    """The API server does not accept who we say that we are: a token that has expired, or credentials that it does not know."""


class ServerFailed(ClusterUnavailable):
    """The API server answers, but fails: an error of its own or of an admission webhook, whose words the message has."""


class Conflict(FinetuneError):
    """The object changed since it was read; look again."""


class NameConflict(FinetuneError):
    """An object of the wanted name exists and is not ours."""


class Forbidden(FinetuneError):
    """The API server refuses the request; its message says why."""


class LocalClusterError(FinetuneError):
    """The local cluster cannot start or is not there."""
