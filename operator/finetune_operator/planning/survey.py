"""What fits per method, and which of it is taken. Called by planner, and by refusal for every remedy that it names."""

from dataclasses import dataclass, field, replace

from finetune_operator.api.resolved import Method
from finetune_operator.planning.candidate import Candidate, best
from finetune_operator.planning.methods import DEAREST_ALLOWED, Choice, choose
from finetune_operator.planning.search import Findings, Question, search


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The findings per method, each made once, and what is chosen among them."""

    question: Question
    known: dict[tuple[Method, int], Findings] = field(default_factory=dict)

    def findings(self, method: Method, lora_rank: int = 0) -> Findings:
        """Return all options of a method; `lora_rank` 0: the spec's."""
        rank = lora_rank or self.question.spec.lora.rank
        if (method, rank) not in self.known:
            self.known[method, rank] = search(with_lora_rank(self.question, rank), method)
        return self.known[method, rank]

    def choice(self) -> Choice | None:
        """Return the user's method, or the one that the rules choose; None where no method fits."""
        spec = self.question.spec
        if spec.method == "auto":
            choice = choose(spec, self.question.preflight, self)
            return choice if choice is None or choice.method in self.question.methods else self._allowed()
        return Choice(method=spec.method, reason="set in spec.method")

    def _allowed(self) -> Choice | None:
        """Return the cheapest of the methods that may be used; None where none of them fits."""
        allowed = self.question.methods
        fitting = [(one.weight, method) for method in allowed if (one := self.cheapest(method)) is not None]
        if not fitting:
            return None
        return Choice(
            method=min(fitting)[1], reason=f"the cheapest that fits of {', '.join(allowed)}, which the policy allows"
        )

    def cheapest(self, method: Method, lora_rank: int = 0) -> Candidate | None:
        """Return the cheapest plan with a method, or None where nothing fits."""
        return min(self.findings(method, lora_rank).fitting, key=lambda one: one.weight, default=None)

    def fewest_gpus(self, method: Method) -> Candidate:
        """Return the plan on the least number of GPUs that a method fits on, the cheapest of them."""
        return min(self.findings(method).fitting, key=lambda one: (one.layout.gpus, one.weight))

    def best(self, choice: Choice) -> Candidate | None:
        """Return what `optimizeFor` asks for; over three times the cheapest only if the user named the method."""
        fitting = self.findings(choice.method, choice.lora_rank).fitting
        spec = self.question.spec
        if spec.method == "auto" and fitting:
            limit = DEAREST_ALLOWED * min(one.weight for one in fitting)
            fitting = tuple(one for one in fitting if one.weight <= limit)
        return best(fitting, spec)


def with_lora_rank(question: Question, rank: int) -> Question:
    """Return the question with another LoRA rank."""
    lora = question.spec.lora.model_copy(update={"rank": rank})
    spec = question.spec.model_copy(update={"lora": lora})
    return replace(question, spec=spec)


def solved(question: Question) -> Candidate | None:
    """Return what would be planned, or None where nothing fits."""
    survey = Survey(question=question)
    choice = survey.choice()
    return survey.best(choice) if choice else None
