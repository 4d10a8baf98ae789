"""What the verifier's tests share."""

import time

from verifier.grade import Grade
from verifier.pool import Pool


def collect(pool: Pool, limit_s: float = 250.0) -> dict[str, Grade]:
    """Every pending result, by key; fails on a key that comes twice."""
    grades: dict[str, Grade] = {}
    deadline = time.monotonic() + limit_s
    while pool.num_pending:
        assert time.monotonic() < deadline, f"{pool.num_pending} results did not come"
        for key, grade, _elapsed_s in pool.results(0.5):
            assert key not in grades
            grades[key] = grade
    return grades
