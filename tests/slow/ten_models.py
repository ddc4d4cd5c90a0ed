"""A child process: uses all models of a folder in turn, from several threads, and tells how that went as JSON.

python tests/slow/ten_models.py FOLDER TURNS THREADS [MAX_MEMORY_MB]
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import numpy as np

import edge_sdk
from edge_sdk.measuring import memory_of


def main(folder: str, turns: str, threads: str, max_memory_mb: str = "") -> None:
    """Prints one line."""
    scheduler = edge_sdk.Scheduler(max_memory_mb=float(max_memory_mb) if max_memory_mb else None)
    files = sorted(Path(folder).iterdir())
    sessions = [scheduler.load(file.stem, file, plan_budget_s=0) for file in files]
    ones = {
        session.name: np.ones([int(size) for size in session.inputs[0].shape or ()], np.float32) for session in sessions
    }
    expected = {session.name: next(iter(session.run(ones[session.name]).values())) for session in sessions}
    failures: list[str] = []
    most_mb = [0.0]

    def use(first: int) -> None:
        for turn in range(int(turns)):
            session = sessions[(first * 3 + turn * 7) % len(sessions)]
            try:
                answer = next(iter(session.run(ones[session.name]).values()))
                np.testing.assert_allclose(answer, expected[session.name], rtol=1e-5)
            except (edge_sdk.EdgeError, AssertionError) as error:
                failures.append(str(error))
            most_mb[0] = max(most_mb[0], sum(scheduler.resident_mb().values()))

    using = [threading.Thread(target=use, args=(number,)) for number in range(int(threads))]
    for thread in using:
        thread.start()
    for thread in using:
        thread.join()
    before_mb = memory_of().private_mb
    answered = sum(one.answered for one in scheduler.figures())
    scheduler.close()
    after_mb = memory_of().private_mb
    assert before_mb is not None and after_mb is not None
    told = {
        "answered": answered,
        "failures": failures,
        "most_resident_mb": most_mb[0],
        "freed_mb": before_mb - after_mb,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
