from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from gaia2.app import worker as module
from gaia2.app.worker import Cancelled, Job, Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker() as made:
        yield made


def test_one_at_a_time_in_order(worker: Worker) -> None:
    order, busy, together = [], threading.Lock(), []

    def work(job: Job) -> int:
        together.append(busy.acquire(blocking=False))
        order.append(job.steps)
        busy.release()
        return job.steps * 10

    jobs = [worker.submit(work, steps=number) for number in range(20)]
    assert all(job.wait(10) for job in jobs)
    assert order == list(range(20))
    assert all(together)
    assert [job.outcome() for job in jobs] == [10 * number for number in range(20)]


def test_places_in_the_queue(worker: Worker) -> None:
    begun, go = threading.Event(), threading.Event()

    def hold(_: Job) -> None:
        begun.set()
        go.wait(10)

    first = worker.submit(hold)
    assert begun.wait(10)
    second, third = worker.submit(lambda job: None), worker.submit(lambda job: None)
    assert [worker.ahead(job) for job in (first, second, third)] == [0, 1, 2]
    go.set()
    assert third.wait(10)
    assert worker.ahead(third) == 0


def test_cancelling_stops_at_the_next_step_and_lets_the_others_go_on(worker: Worker) -> None:
    begun, go = threading.Event(), threading.Event()

    def long(job: Job) -> None:
        for step in range(100):
            job.advance()
            if step == 2:
                begun.set()
                go.wait(10)

    ran = []
    first = worker.submit(long, steps=100)
    second = worker.submit(lambda job: ran.append("second"))
    third = worker.submit(lambda job: ran.append("third"))
    assert begun.wait(10)
    first.cancel()
    second.cancel()
    go.set()
    assert third.wait(10)
    assert first.done == 3
    assert ran == ["third"]
    for job in (first, second):
        with pytest.raises(Cancelled):
            job.outcome()


def test_an_error_is_for_who_asked(worker: Worker) -> None:
    bad = worker.submit(lambda job: 1 / 0)
    good = worker.submit(lambda job: 1)
    assert good.wait(10)
    assert good.outcome() == 1
    with pytest.raises(ZeroDivisionError):
        bad.outcome()


def test_the_queue_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    go = threading.Event()
    with Worker() as worker:
        begun = threading.Event()
        worker.submit(lambda job: (begun.set(), go.wait(10)))
        assert begun.wait(10)
        waiting = [worker.submit(lambda job: None) for _ in range(2)]
        with pytest.raises(ValueError, match="queue: expected at most 2 who wait, got one more; try again later"):
            worker.submit(lambda job: None)
        waiting[0].cancel()
        go.set()
    with pytest.raises(ValueError, match="queue"):
        worker.submit(lambda job: None)
