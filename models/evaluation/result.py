"""What an evaluation says, as it is written to JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from models.evaluation.metrics import Bin, Interval, McNemar


class Figures(BaseModel):
    """One method over one set of rows."""

    model_config = ConfigDict(frozen=True)

    micro_ap: Interval
    recall_at_90: Interval
    recall_at_99: Interval
    threshold_at_99: float
    recall_per_edit_at_99: dict[str, float]
    mean_recall_at_99: Interval
    untrained_recall_at_99: Interval


class Deployed(BaseModel):
    """dejaview's verdicts at the thresholds it ships with."""

    model_config = ConfigDict(frozen=True)

    duplicate_threshold: float
    review_threshold: float
    precision: Interval
    recall: Interval
    review_share: float
    recall_per_edit: dict[str, float]
    calibration_error: Interval
    reliability: list[Bin]


class PaperMix(BaseModel):
    """IDedupNet's own edits, as many queries with an original as without, at the duplicate threshold."""

    model_config = ConfigDict(frozen=True)

    queries: int
    precision: float
    recall: float
    f1: float


class HardNegatives(BaseModel):
    """Pairs that look alike: how many are called duplicates."""

    model_config = ConfigDict(frozen=True)

    definition: str
    pairs: int
    duplicates: int
    reviews: int


class Counts(BaseModel):
    """What was asked of what."""

    model_config = ConfigDict(frozen=True)

    photos: int
    edits: int
    queries_with_original: int
    queries_without_original: int
    rows_unseen: int
    rows_seen: int


class Evaluation(BaseModel):
    """One run of `dejaview eval`."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model_id: str
    command: str
    seed: int
    counts: Counts
    families: dict[str, list[str]]
    untrained: list[str]
    methods: dict[str, Figures]
    variants: dict[str, Figures]
    deployed: Deployed
    best_baseline: str | None
    against_best_baseline: McNemar | None
    paper_mix: PaperMix
    hard_negatives: HardNegatives | None
    curves: dict[str, list[tuple[float, float]]]
