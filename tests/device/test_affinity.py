"""Pinning of threads, read back from the kernel."""

from __future__ import annotations

import os
import threading

import pytest

from edge_sdk.device import running_on, thread_cpus, thread_ids, usable_cpus
from edge_sdk.errors import DeviceError

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")


def test_usable_cpus_are_those_of_the_thread() -> None:
    assert usable_cpus() == tuple(sorted(os.sched_getaffinity(0)))
    assert thread_cpus(threading.get_native_id()) == usable_cpus()


def test_threads_created_inside_keep_the_cpus_and_the_caller_gets_its_own_back() -> None:
    before = usable_cpus()
    started, finish = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        finish.wait()

    with running_on(before[:1]):
        assert usable_cpus() == before[:1]
        worker = threading.Thread(target=work)
        worker.start()
        started.wait()
    try:
        assert usable_cpus() == before
        assert worker.native_id in thread_ids()
        assert worker.native_id is not None
        assert thread_cpus(worker.native_id) == before[:1]
    finally:
        finish.set()
        worker.join()


def test_given_back_also_after_an_error() -> None:
    before = usable_cpus()
    with pytest.raises(KeyError), running_on(before[:1]):
        raise KeyError
    assert usable_cpus() == before


def test_none_changes_nothing() -> None:
    with running_on(None):
        assert thread_cpus(threading.get_native_id()) == usable_cpus()


@pytest.mark.parametrize("cpus", [(), (4095,), (-1,), (1 << 40,)])
def test_cpus_that_do_not_exist(cpus: tuple[int, ...]) -> None:
    before = usable_cpus()
    with pytest.raises(DeviceError, match="choose among"), running_on(cpus):
        pytest.fail("the block must not be entered")
    assert usable_cpus() == before


def test_thread_that_has_ended() -> None:
    assert thread_cpus(0) == ()
