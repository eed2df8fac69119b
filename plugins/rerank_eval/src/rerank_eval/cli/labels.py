"""The flags of the command about labels: ``--labels``, ``--judge`` and those that belong to them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rerank_core import InputError
from rerank_core.cli.shared import note, progress_over
from rerank_eval.runs.model_choice import ModelChoice

if TYPE_CHECKING:
    from rerank_eval.judging.judge import Judge
    from rerank_eval.judging.judge_set import Watch
    from rerank_eval.runs.model_run import ModelRun
    from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["LabelFlags"]


@dataclass(frozen=True)
class LabelFlags:
    """Where labels come from, beside the files of the data.

    Raises:
        InputError: flags that exclude or need each other.
    """

    labels: Path | None = None
    judge: str | None = None
    judge_url: str | None = None
    judge_model: str | None = None
    judge_depth: int = 20
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.judge is not None and self.judge_url is not None:
            raise InputError("--judge and --judge-url are both given; the labels of a set have one judge")
        if (self.judge_url is None) != (self.judge_model is None):
            raise InputError("--judge-url and --judge-model belong together; give both: where, and which model")

    @property
    def has_judge(self) -> bool:
        """Whether a model gives the labels, after the models that it judges have run."""
        return self.judge is not None or self.judge_url is not None

    @property
    def come_later(self) -> bool:
        """Whether the data may be without labels."""
        return self.has_judge or self.labels is not None

    def check(self) -> None:
        """Refuse a judge that cannot be used, as far as that is known without loading it.

        Raises:
            InputError: an endpoint without a URL, an unknown model or option, or a listwise model.
            MissingDependencyError: the library for the endpoint is not installed.
        """
        if self.judge_url is not None:
            with self._judge():
                return
        if self.judge is None:
            return
        from rerank_core import Options, load, models
        from rerank_eval.judging.model_judge import orders_lists

        choice = ModelChoice.parse(self.judge)
        spec = next((one for one in models() if choice.source in one.names), None)
        if spec is None:
            if not re.search("[/:]", choice.source) and not Path(choice.source).exists():
                load(choice.source, **choice.options).close()  # its error names what is near
            return
        options = Options.of(spec, choice.options)
        if options.calibration is not None and not Path(options.calibration).is_file():
            load(choice.source, **choice.options).close()  # which reads the calibration before the weights
        if spec.raw_space == "rank":
            raise orders_lists(choice.label or choice.source)

    def before_runs(self, sets: Sequence[JudgedSet]) -> list[JudgedSet]:
        """The sets with the labels of ``--labels``; without a judge, also without the queries that have none."""
        found = list(sets)
        if self.labels is not None:
            from rerank_eval.judging.feedback import with_feedback

            found, _ = with_feedback(found, self.labels, self.encoding)
        if self.labels is not None and not self.has_judge:
            from rerank_eval.sets.usable import usable

            found = [usable(judged) for judged in found]
        return found

    def after_runs(
        self, sets: Sequence[JudgedSet], runs: Sequence[ModelRun], metric: str, results: Path
    ) -> tuple[list[JudgedSet], list[ModelRun]]:
        """The sets with the labels of the judge, and the runs of their queries; where `has_judge`.

        Args:
            results: folder of kept verdicts.
        """
        from rerank_eval.judging.judge_set import judge_set
        from rerank_eval.judging.kept_verdicts import KeptVerdicts

        judged_sets: list[JudgedSet] = []
        judged_runs: dict[tuple[str, str], ModelRun] = {}
        with self._judge() as judge, closing(KeptVerdicts(results / "verdicts.sqlite")) as kept:
            for judged in sets:
                watch = _watch(f"{judge.name} judges {judged.name}")
                result = judge_set(judged, runs, judge, kept, depth=self.judge_depth, metric=metric, watch=watch)
                judged_sets.append(result.set)
                own = [run for run in result.runs if run.set_digest == result.set.digest]
                judged_runs.update({(run.model, run.set_digest): run for run in own})
        return judged_sets, list(judged_runs.values())

    @contextmanager
    def _judge(self) -> Iterator[Judge]:
        """The judge, closed afterwards."""
        from rerank_eval.judging.endpoint_judge import EndpointJudge
        from rerank_eval.judging.model_judge import ModelJudge

        if self.judge_url is not None:
            with closing(EndpointJudge(self.judge_url, self.judge_model or "")) as endpoint:
                yield endpoint
            return
        from rerank_core import load

        choice = ModelChoice.parse(self.judge or "")
        note(f"loading {choice.source}, the judge")
        with closing(ModelJudge(load(choice.source, **choice.options), choice.label or choice.source)) as model:
            yield model


def _watch(what: str) -> Watch:
    """A progress bar over verdicts."""
    return lambda verdicts, done, total: progress_over(verdicts, what, done, total)
