"""Long jobs: watched, stopped, failed."""

import threading
import time
from collections.abc import Callable

import pytest

from situ.core.errors import SituError
from situ.core.progress import Progress
from situ.studio.jobs import Jobs


def counting(progress: Progress) -> list[int]:
    """Counts to a thousand; stopped, it keeps what it has, as Situ's verbs do."""
    done: list[int] = []
    try:
        for i in range(1000):
            done.append(i)
            progress(i + 1, 1000, "counting")
            time.sleep(0.005)
    except KeyboardInterrupt:
        progress(len(done), 1000, "put together")  # must not be stopped again
    return done


def test_a_job_tells_how_far_it_is_and_stops_with_what_it_has() -> None:
    jobs = Jobs()
    job = jobs.start("me", counting, "Counting")
    said = []
    for words in job.watch():
        said.append(words)
        if len(said) == 2:
            assert not jobs.cancel("somebody else")
            assert jobs.cancel("me")
    assert any(words.startswith("Counting: ") and "%" in words and "counting" in words for words in said)
    assert job.result is not None
    assert 0 < len(job.result) < 1000
    assert not jobs.cancel("me")


def test_an_error_of_the_job_is_the_watchers() -> None:
    def failing(progress: Progress) -> None:
        raise SituError("no")

    with pytest.raises(SituError, match="no"):
        list(Jobs().start("me", failing).watch())


def test_one_at_a_time_and_each_person_one() -> None:
    jobs = Jobs()
    order: list[str] = []

    def noted(name: str, seconds: float) -> Callable[[Progress], None]:
        def run(progress: Progress) -> None:
            order.append(f"{name} begins")
            time.sleep(seconds)
            order.append(f"{name} ends")

        return run

    first = jobs.start("a", noted("first", 0.7))
    next(first.watch())  # and looked at no more, as when the page is closed
    with pytest.raises(SituError, match="still under way"):
        jobs.start("a", noted("again", 0))
    second = jobs.start("b", noted("second", 0))
    assert any("waiting for another job" in words for words in list(second.watch()))
    assert order == ["first begins", "first ends", "second begins", "second ends"]
    assert jobs.of("a") is None
    assert jobs.alone(lambda: 3) == 3


def test_a_job_that_waits_is_stopped_too() -> None:
    jobs = Jobs()
    release = threading.Event()
    jobs.start("a", lambda progress: release.wait(20))
    second = jobs.start("b", counting)
    jobs.cancel("b")
    with pytest.raises(KeyboardInterrupt):
        list(second.watch())
    release.set()


def test_a_job_that_was_left_is_watched_again() -> None:
    jobs = Jobs()
    jobs.start("me", lambda progress: time.sleep(0.6) or 7, "Sleeping")
    job = jobs.of("me")
    assert job is not None
    assert all(words.startswith("Sleeping") for words in job.watch())
    assert job.result == 7
