"""One piece of work after the other, for visitors who wait: place in the queue, progress, cancelling."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_WAITING = 64


class Cancelled(Exception):  # noqa: N818  # not an error: somebody asked for it
    """Raised in the work by `Job.advance` once somebody cancelled it."""


@dataclass(eq=False)
class Job:
    """A piece of work on its way.

    Attributes:
        work: Called with the job when its turn comes.
        steps: How many steps it will take; 0 is unknown.
        done: Steps that are done.
        result: What the work gave.
        error: What it raised.
    """

    work: Callable[[Job], Any]
    steps: int = 0
    done: int = 0
    result: Any = None
    error: BaseException | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _over: threading.Event = field(default_factory=threading.Event)

    def advance(self) -> None:
        """A step is done; called by the work.

        Raises:
            Cancelled: If somebody cancelled the job.
        """
        self.check()
        self.done += 1

    def check(self) -> None:
        """Raise `Cancelled` if somebody cancelled the job; called by the work where it can stop."""
        if self._cancelled.is_set():
            raise Cancelled

    def cancel(self) -> None:
        """Ask the work to stop at its next step, or not to begin."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled it."""
        return self._cancelled.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait, and say whether the job is over."""
        return self._over.wait(seconds)

    def outcome(self) -> Any:
        """What the work gave, once it is over.

        Raises:
            BaseException: What the work raised; `Cancelled` if it was cancelled.
        """
        if self.error is not None:
            raise self.error
        return self.result


class Worker:
    """Does jobs one at a time, in the order in which they come, in a thread of its own.

    A model's call takes all cores or the whole GPU; two at once would each take twice as long, and twice the memory.

    Example:
        >>> with Worker() as worker:
        ...     job = worker.submit(lambda job: 6 * 7)
        ...     _ = job.wait(10)
        ...     job.outcome()
        42
    """

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="gaia2 app", daemon=True)
        self._thread.start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, work: Callable[[Job], Any], steps: int = 0) -> Job:
        """Put work at the end of the queue.

        Raises:
            ValueError: If too many wait already, or the worker is closed.
        """
        job = Job(work, steps)
        with self._changed:
            if self._closed or len(self._waiting) >= MAX_WAITING:
                raise ValueError(f"queue: expected at most {MAX_WAITING} who wait, got one more; try again later")
            self._waiting.append(job)
            self._changed.notify()
        return job

    def ahead(self, job: Job) -> int:
        """How many are before it, the one at work among them; 0 once it has begun."""
        with self._changed:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + (self._running is not None)

    def close(self) -> None:
        """Cancel everything and end; waits for the step at hand."""
        with self._changed:
            self._closed = True
            for job in [*self._waiting, *([self._running] if self._running else [])]:
                job.cancel()
            self._changed.notify()
        self._thread.join(timeout=60)

    def _run(self) -> None:
        for job in self._coming():
            try:
                job.check()
                job.result = job.work(job)
            except BaseException as error:  # whoever waits gets it
                job.error = error
            with self._changed:
                self._running = None
            job._over.set()

    def _coming(self) -> Iterator[Job]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                self._running = self._waiting.popleft()
            yield self._running
