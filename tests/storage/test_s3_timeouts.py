"""All tries of a request to an S3 server share the time after which it is given up."""

from __future__ import annotations

import pytest

from flightserver.storage.s3_access import S3Timeouts


@pytest.mark.parametrize(
    ("given", "fitted", "tries"),
    [
        (S3Timeouts(5, 30, 60), S3Timeouts(5, 30, 60), 2),
        (S3Timeouts(5, 45, 60), S3Timeouts(5, 30, 60), 2),
        (S3Timeouts(5, 30, 20), S3Timeouts(5, 20, 20), 1),
        (S3Timeouts(5, 30, 3), S3Timeouts(3, 3, 3), 1),
        (S3Timeouts(4, 2.5, 6), S3Timeouts(2, 2, 6), 3),
        # Nothing is shared when the time isn't used up, or none is tried again.
        (S3Timeouts(5, 45, 100, retries=1), S3Timeouts(5, 45, 100, retries=1), 2),
        (S3Timeouts(5, 45, 60, retries=0), S3Timeouts(5, 45, 60, retries=0), 1),
        (S3Timeouts(5, 30, 0), S3Timeouts(5, 30, 0), 1),
    ],
)
def test_tries_get_a_length_of_which_a_whole_number_fits(given: S3Timeouts, fitted: S3Timeouts, tries: int) -> None:
    assert given.fitted == fitted
    assert given.fitted.fitted == fitted
    assert fitted.tries == tries
    assert fitted.patience <= max(given.retry_seconds, given.request_seconds)
