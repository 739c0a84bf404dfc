"""One evaluation: photos are edited, and the edited copies looked for among the photos and others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.background import Background
from models.calibration import Calibration
from models.edits import EDITS, FAMILIES, UNTRAINED
from models.evaluation import hard_negatives
from models.evaluation.answers import Answers, Compare, ask
from models.evaluation.decision import Decision, Views, pair_scores
from models.evaluation.metrics import (
    Scores,
    bootstrap,
    calibration_error,
    curve,
    f1,
    mcnemar,
    micro_ap,
    recall_at,
    reliability,
)
from models.evaluation.queries import IMAGENET, OURS, PAPER, Methods, Task, Workshop
from models.evaluation.result import Counts, Deployed, Evaluation, Figures, HardNegatives, PaperMix
from models.photos import Photo
from schemas.events import Vector

PAPER_DRAWS = 4
PRECISION, LESS_PRECISION = 0.99, 0.90


@dataclass(frozen=True, slots=True)
class Ground:
    """What queries are looked for among.

    Attributes:
        photos: which are edited; row n is photo n.
        unseen, seen: other photos, which no training, or some training, has had before its eyes.
    """

    photos: Sequence[Photo]
    unseen: Sequence[Photo]
    seen: Sequence[Photo]

    @property
    def rows(self) -> list[Photo]:
        return [*self.photos, *self.unseen, *self.seen]

    def among(self, others: Sequence[Photo]) -> NDArray[np.intp]:
        """Places of the photos' own rows, which come first, and of these."""
        chosen = {photo.sha256 for photo in [*self.photos, *others]}
        return np.flatnonzero([photo.sha256 in chosen for photo in self.rows])


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures, and what a page shows beside them."""

    evaluation: Evaluation
    edits: tuple[str, ...]
    ours: Answers


@dataclass(frozen=True, slots=True)
class Model:
    """What turns embeddings into verdicts."""

    background: Background
    calibration: Calibration


def cosine(rows: Vector) -> Compare[Vector]:
    """Plain similarity to these rows."""

    def similarities(queries: Vector, *, own: bool) -> Vector:
        found: Vector = queries @ rows.T
        if not own:
            np.fill_diagonal(found, -np.inf)
        return found

    return similarities


def evaluate(
    ground: Ground,
    model: Model,
    methods: Methods,
    workshop: Workshop,
    *,
    command: str,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Edit, hash, encode, compare. Minutes: each photo is edited some fifty times."""
    names, photos = tuple(EDITS), ground.photos
    say(f"rows: {len(ground.rows)}")
    rows, views = workshop.made(Task(photo) for photo in ground.rows)
    made = []
    for edit in names:
        say(f"queries: {edit}")
        made.append(workshop.made(Task(photo, edit) for photo in photos))
    say("queries: the paper's mix")
    paper = [workshop.made(Task(photo, PAPER, draw) for photo in photos).views for draw in range(PAPER_DRAWS)]

    say("figures")
    queries, decision = [one.views for one in made], Decision(model.background, views)
    others = {name: ask([one.rows[name] for one in made], cosine(theirs)) for name, theirs in rows.items()}
    answers = {OURS: ask(queries, decision.scores), **others}
    figures = {name: figures_of(found, names, seed) for name, found in answers.items()}
    best = max((name for name in figures if name != OURS), key=lambda name: figures[name].micro_ap.value, default=None)
    ours = answers[OURS]
    agreed = ours.agreed(queries, decision.agreed)
    evaluation = Evaluation(
        model_id=methods.encoder.model_id,
        command=command,
        seed=seed,
        counts=Counts(
            photos=len(photos),
            edits=len(names),
            queries_with_original=ours.positives,
            queries_without_original=ours.positives,
            rows_unseen=len(photos) + len(ground.unseen),
            rows_seen=len(ground.seen),
        ),
        families={name: list(family.edits) for name, family in FAMILIES.items()},
        untrained=list(UNTRAINED),
        methods=figures,
        variants={
            name: figures_of(ask(queries, compare), names, seed)
            for name, compare in variants(ground, model.background, views).items()
        },
        deployed=deployed(ours, agreed, names, model.calibration, seed),
        best_baseline=best,
        against_best_baseline=best and mcnemar(*(_rightly(answers[name], figures[name]) for name in (OURS, best))),
        paper_mix=paper_mix(ask(paper, decision.scores), model.calibration.duplicate_threshold),
        hard_negatives=hard_negatives_of(ground, model, rows, views),
        curves={name: curve(*found.flat(), found.positives) for name, found in answers.items()},
    )
    return Outcome(evaluation, names, ours)


def variants(ground: Ground, background: Background, rows: Views) -> dict[str, Compare[Views]]:
    """What each part of the decision is worth, and what the rows' origin is."""
    plain = cosine(rows.whole)

    def similarity(queries: Views, *, own: bool) -> Scores:
        return plain(queries.whole, own=own)

    found: dict[str, Compare[Views]] = {
        "without panels": Decision(background, rows, panels=False).scores,
        "without PDQ": Decision(background, rows, hashes=False).scores,
        "the embedding alone": Decision(background, rows, hashes=False, panels=False).scores,
        "its similarity, not normalised": similarity,
    }
    if ground.unseen and ground.seen:
        for name, others in (("unseen", ground.unseen), ("seen", ground.seen)):
            found[f"as deployed, among {name} rows only"] = Decision(background, rows.part(ground.among(others))).scores
    return found


def figures_of(answers: Answers, edits: Sequence[str], seed: int) -> Figures:
    """Micro-AP and recall, with intervals over the photos."""
    untrained = [n for n, name in enumerate(edits) if any(name in FAMILIES[family].edits for family in UNTRAINED)]

    def figures(drawn: NDArray[np.intp]) -> list[float]:
        part = answers.of_photos(drawn)
        scores, right = part.flat()
        recall, threshold = recall_at(scores, right, part.positives, PRECISION)
        per_edit = np.array(part.recall_per_edit(threshold))
        return [
            micro_ap(scores, right, part.positives),
            recall_at(scores, right, part.positives, LESS_PRECISION)[0],
            recall,
            float(per_edit.mean()),
            float(per_edit[untrained].mean()),
        ]

    ap, recall_90, recall_99, mean, mean_untrained = bootstrap(figures, answers.photos, seed)
    scores, right = answers.flat()
    _, threshold = recall_at(scores, right, answers.positives, PRECISION)
    return Figures(
        micro_ap=ap,
        recall_at_90=recall_90,
        recall_at_99=recall_99,
        threshold_at_99=threshold,
        recall_per_edit_at_99=dict(zip(edits, answers.recall_per_edit(threshold), strict=True)),
        mean_recall_at_99=mean,
        untrained_recall_at_99=mean_untrained,
    )


def deployed(
    answers: Answers, agreed: NDArray[np.bool_], edits: Sequence[str], calibration: Calibration, seed: int
) -> Deployed:
    """What the shipped thresholds and confidences come to; `agreed` of each answer, in the order of `flat`."""
    limit = calibration.duplicate_threshold
    scores, right = answers.flat()
    confidence = calibration.confidences(scores, agreed).astype(np.float32)
    by_photo = np.tile(np.arange(answers.photos), 2 * len(edits))
    places = [np.flatnonzero(by_photo == photo) for photo in range(answers.photos)]

    def figures(drawn: NDArray[np.intp]) -> list[float]:
        part = answers.of_photos(drawn)
        precision, recall, _ = f1(*part.flat(), part.positives, limit)
        chosen = np.concatenate([places[photo] for photo in drawn])
        return [precision, recall, calibration_error(confidence[chosen], right[chosen])]

    precision, recall, error = bootstrap(figures, answers.photos, seed)
    return Deployed(
        duplicate_threshold=limit,
        review_threshold=calibration.review_threshold,
        precision=precision,
        recall=recall,
        review_share=float(((scores >= calibration.review_threshold) & (scores < limit)).mean()),
        recall_per_edit=dict(zip(edits, answers.recall_per_edit(limit), strict=True)),
        calibration_error=error,
        reliability=reliability(confidence, right),
    )


def paper_mix(answers: Answers, threshold: float) -> PaperMix:
    """One positive to one negative."""
    scores, right = answers.flat()
    precision, recall, both = f1(scores, right, answers.positives, threshold)
    return PaperMix(queries=len(scores), precision=precision, recall=recall, f1=both)


def hard_negatives_of(ground: Ground, model: Model, rows: dict[str, Vector], views: Views) -> HardNegatives | None:
    """The project's pairs when their photos are here, else mined ones when ImageNet features are, else none."""
    photos = ground.rows
    pairs, definition = hard_negatives.listed(photos), "models/splits/hard-negatives.txt"
    if not pairs and IMAGENET in rows:
        pairs, definition = hard_negatives.mined(photos, rows[IMAGENET]), "two nearest by ImageNet features"
    if not pairs:
        return None
    scores, _ = pair_scores(views, model.background, pairs, either=True)
    duplicates = int((scores >= model.calibration.duplicate_threshold).sum())
    return HardNegatives(
        definition=definition,
        pairs=len(pairs),
        duplicates=duplicates,
        reviews=int((scores >= model.calibration.review_threshold).sum()) - duplicates,
    )


def _rightly(answers: Answers, figures: Figures) -> NDArray[np.bool_]:
    return answers.decided_rightly(figures.threshold_at_99)
