"""The faults, as a table. Each waits for its hit, does its damage, and heals it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from tests.fault.round import Round
from tests.support.proxy import Mode

Fault = Callable[[Round, float], None]

INDEX_ERRORS = "dejaview_index_errors_total"
BROKER_AWAY_S = 3.0
# Longer than `kafka.request_timeout_s` and `kafka.transaction_timeout_s` by default, twice: transactions, sessions and
# producers are all given up.
BROKER_LOST_S = 75.0
# A batch whose searches were over when the index went away.
COMMITTED_WITHIN_S = 1.0


def kill(stage: str, this: Round, _hold_s: float) -> None:
    """SIGKILL one worker; it is started again."""
    name = this.rng.choice(this.of(stage))
    this.hit(name)
    this.workers[name].kill()
    this.note("killed", worker=name)
    this.launch(name)


def terminate(stage: str, this: Round, _hold_s: float) -> None:
    """SIGTERM one worker, which must drain and end with 0; it is started again."""
    name = this.rng.choice(this.of(stage))
    this.hit(name)
    status = this.workers[name].terminate()
    this.note("terminated", worker=name, status=status)
    assert status == 0, f"{name} ended with {status}"
    this.launch(name)


def zombie(stage: str, this: Round, hold_s: float) -> None:
    """SIGSTOP one worker for longer than the session timeout, while another takes its partitions; then SIGCONT."""
    names = this.of(stage)
    if len(names) < 2:
        names.append(f"{stage}-substitute")
        this.launch(names[-1])
        this.wait_ready([names[-1]])
    # Right after another worker came, this one may own nothing: take one that has work.
    name = max(names, key=this.in_hand)
    others = [n for n in names if n != name]
    taken = sum(this.takeovers(n) for n in others)
    this.hit(name)
    this.workers[name].suspend()
    this.note("stopped", worker=name)
    try:
        time.sleep(hold_s)
        assert sum(this.takeovers(n) for n in others) > taken, f"no hit: nobody took over what {name} has"
        assert not this.load.over or this.sent > this.answers.count, "no hit: it wakes up to nothing"
    finally:
        this.workers[name].resume()
        this.note("continued", worker=name, answered=this.answers.count, sent=this.sent)


def add(stage: str, this: Round, _hold_s: float) -> None:
    """One worker more: a rebalance under load."""
    this.hit(*this.of(stage)[:1])
    this.launch(f"{stage}-added")
    this.wait_ready([f"{stage}-added"])


def remove(stage: str, this: Round, _hold_s: float) -> None:
    """One worker less, for good."""
    names = this.of(stage)
    if len(names) < 2:
        add(stage, this, 0)
        names = this.of(stage)
    this.hit(names[0])
    assert this.workers[names[0]].terminate() == 0
    this.note("removed", worker=names[0])


def restart_kafka(this: Round, _hold_s: float) -> None:
    """The broker stops in an orderly way and comes back."""
    this.hit()
    this.cluster.kafka.stop()
    this.note("kafka stopped")
    time.sleep(BROKER_AWAY_S)
    this.cluster.kafka.start()
    this.note("kafka started")


def kill_kafka(away_s: float, this: Round, _hold_s: float) -> None:
    """The broker is killed and comes back with its log."""
    this.hit()
    this.cluster.kafka.kill()
    this.note("kafka killed")
    time.sleep(away_s)
    this.cluster.kafka.start()
    this.note("kafka started")


def stop_milvus(this: Round, hold_s: float) -> None:
    """Milvus is away for a while; nothing is answered meanwhile."""
    this.hit()
    with this.felt(INDEX_ERRORS):
        this.cluster.milvus.stop()
        time.sleep(COMMITTED_WITHIN_S)
        answered = this.answers.count
        this.note("milvus stopped", answered=answered)
        time.sleep(hold_s)
        assert this.answers.count == answered, "answered without an index"
        this.cluster.milvus.start()


def empty_milvus(this: Round, _hold_s: float) -> None:
    """Milvus loses everything."""
    this.hit()
    with this.felt(INDEX_ERRORS):
        this.cluster.empty_milvus()
        this.note("milvus emptied", answered=this.answers.count)


# How many uploads an older copy lacks at most.
COPY_AGE_MAX = 400


def restore_milvus(this: Round, _hold_s: float) -> None:
    """Milvus comes back with an older copy of its data."""
    this.cluster.copy_milvus()
    this.note("milvus copied", answered=this.answers.count)
    copied = this.answers.count
    target = min(this.shape.uploads * 0.9, copied + min(this.shape.uploads * 0.15, COPY_AGE_MAX))
    this.wait_answered(target / this.shape.uploads)
    this.hit()
    with this.felt(INDEX_ERRORS):
        this.cluster.restore_milvus()
        this.note("milvus restored", answered=this.answers.count)


def network(server: str, mode: Mode, this: Round, hold_s: float) -> None:
    """The proxy before a server delays, drops, resets or half-closes."""
    this.hit()
    proxy = this.cluster.proxies[server]
    before = this.answers.count
    proxy.mode = mode
    this.note("network", server=server, mode=mode, answered=before)
    time.sleep(hold_s)
    touched = proxy.touched
    proxy.mode = Mode.PASS
    this.note("network healed", touched=touched, answered=this.answers.count)
    assert touched > 0, f"no hit: nothing went through the proxy of {server}"


STAGES = ("encode", "decide", "index")
FAULTS: dict[str, Fault] = {
    **{f"kill-{stage}": partial(kill, stage) for stage in STAGES},
    **{f"sigterm-{stage}": partial(terminate, stage) for stage in STAGES},
    **{f"zombie-{stage}": partial(zombie, stage) for stage in STAGES},
    **{f"add-{stage}": partial(add, stage) for stage in STAGES},
    **{f"remove-{stage}": partial(remove, stage) for stage in STAGES},
    "restart-kafka": restart_kafka,
    "kill-kafka": partial(kill_kafka, BROKER_AWAY_S),
    "lose-kafka": partial(kill_kafka, BROKER_LOST_S),
    "stop-milvus": stop_milvus,
    "empty-milvus": empty_milvus,
    "restore-milvus": restore_milvus,
    **{f"{server}-{mode.value}": partial(network, server, mode)
       for server in ("kafka", "milvus") for mode in (Mode.DELAY, Mode.DROP, Mode.RESET, Mode.HALF_CLOSE)},
}  # fmt: skip
