"""Long jobs: watched, stopped, failed."""

import time

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
    job = jobs.start("me", counting)
    said = []
    for words in job.watch():
        said.append(words)
        if len(said) == 2:
            assert not jobs.cancel("somebody else")
            assert jobs.cancel("me")
    assert any("%" in words and "counting" in words for words in said)
    assert job.result is not None
    assert 0 < len(job.result) < 1000
    jobs.end("me")
    assert not jobs.cancel("me")


def test_an_error_of_the_job_is_the_watchers() -> None:
    def failing(progress: Progress) -> None:
        raise SituError("no")

    with pytest.raises(SituError, match="no"):
        list(Jobs().start("me", failing).watch())
