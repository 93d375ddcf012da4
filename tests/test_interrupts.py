"""Ctrl-C: heard within a second in the middle of any call, and what a run has kept is not lost."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

import interp_fast as itf

RNG = np.random.default_rng(8)
ROWS = RNG.standard_normal((20_000, 784))
QUERIES = RNG.standard_normal((4096, 784))
STEPS = itf.euler(itf.Linear(), [0.0, 0.1, 0.2])
CALLS = {
    "denoiser": lambda field: field.denoiser(QUERIES, 0.1),
    "jvp": lambda field: field.jvp(QUERIES, 0.4, QUERIES),
    "one row of a run": lambda field: itf.sample(field, STEPS, x0=QUERIES),
    "nearest rows": lambda field: field.denoiser(np.tile(QUERIES, (8, 1)), 1.0),
}


pytestmark = pytest.mark.usefixtures("hears_ctrl_c")


@pytest.mark.parametrize(
    ("backend", "threads", "what"),
    [
        *(("cpp", threads, what) for threads in (1, 2) for what in ("denoiser", "jvp", "one row of a run")),
        ("cpp", 2, "nearest rows"),
        *(("numba", threads, "denoiser") for threads in (1, 2)),
        ("reference", 1, "denoiser"),
    ],
)
def test_ctrl_c_is_heard(backend, threads, what):
    """Every one of these calls takes many seconds; after it the next one is answered as ever."""
    small = ROWS[:300, :5].copy()
    want = itf.Field(small, backend=backend, threads=threads).denoiser(small, 0.5)  # compiles what is to be compiled
    field = itf.Field(ROWS, backend=backend, threads=threads)
    field.denoiser(QUERIES[:1], 0.1)
    sent = []

    def send():
        sent.append(time.process_time())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.5, send)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        CALLS[what](field)
    worked = time.process_time() - sent[0]  # seconds of processors: others on the machine do not count
    timer.join()
    assert worked < threads * 1.0
    np.testing.assert_array_equal(itf.Field(small, backend=backend, threads=threads).denoiser(small, 0.5), want)


def interrupt(done, rows):
    if done >= 20:
        raise KeyboardInterrupt


@pytest.mark.parametrize(("keep", "held", "rows"), [("path", 21, 20), (8, 3, 16)])
@pytest.mark.parametrize("error", [None, lambda x, t, r: 0 * x], ids=["fused", "stepped"])
def test_what_a_run_has_kept_is_not_lost(keep, held, rows, error):
    field = itf.Field(ROWS[:50, :3].copy())
    steps = itf.ddpm(field.schedule, 40)
    whole = itf.sample(field, steps, 4, rng=1, keep=keep, error=error)
    with pytest.raises(KeyboardInterrupt) as caught:
        itf.sample(field, steps, 4, rng=1, keep=keep, error=error, progress=interrupt)
    np.testing.assert_array_equal(caught.value.path, whole.path[:, :held])
    np.testing.assert_array_equal(caught.value.path_times, whole.path_times[:held])
    assert f"{rows} of 40 rows" in caught.value.__notes__[0]


def test_without_a_path_nothing_is_kept():
    field = itf.Field(ROWS[:50, :3].copy())
    with pytest.raises(KeyboardInterrupt) as caught:
        itf.sample(field, itf.ddpm(field.schedule, 40), 4, rng=1, progress=interrupt)
    assert not vars(caught.value)
