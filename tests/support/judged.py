"""Uploads of real photographs, and whether a deployment judged them as it must."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from models.calibration import Calibration
from stream.config import Settings
from stream.decision import Rule
from tests.support.deployment import Deployment, SentUpload
from tests.support.offline import disagreement
from tests.support.photos import mixture


def rule_of(_tenant: str) -> Rule:
    """The deployed thresholds."""
    calibration = Calibration.load()
    neighbours_max = Settings().index.neighbours_max
    return Rule(calibration.duplicate_threshold, calibration.review_threshold, neighbours_max, calibration)


def uploads(count: int, seed: int, partitions: int = 4) -> list[SentUpload]:
    """Real photographs and edits for three tenants; every tenth upload is sent twice."""
    made = [
        SentUpload(f"{seed}-{n}-{name}", value, f"tenant-{n % 3}", n % partitions)
        for n, (name, value) in enumerate(mixture(count - count // 10, seed))
    ]
    return made + made[: count - len(made)]


def assert_equal_to_offline(
    deployment: Deployment, sent: int, rule_of: Callable[[str], Rule] = rule_of
) -> Counter[str]:
    """R1 and R2: every upload record has exactly one answer, and it is the offline judge's."""
    verdicts, dead_letters = deployment.verdicts(), deployment.dead_letters()
    answers = deployment.offline(rule_of)
    places = [v.trace.source.key for v in verdicts if v.trace] + [d.source.key for d in dead_letters]
    assert Counter(places).most_common(1)[0][1] == 1, "an upload was answered twice"
    assert len(places) == sent, f"{sent} uploads, {len(places)} answers"
    assert set(places) == set(answers)
    wrong = [w for v in verdicts if v.trace and (w := disagreement(answers[v.trace.source.key], v))]
    assert not wrong, wrong[:10]
    for letter in dead_letters:
        assert answers[letter.source.key].reason == letter.reason
    return Counter(str(v.verdict) for v in verdicts)
