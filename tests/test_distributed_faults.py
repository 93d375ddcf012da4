"""What happens on real clusters: workers are killed, join late, or are slow; files are corrupt; clients go away."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import problems
import pytest

import interp_fast as itf
from interp_fast._cli import main

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.long
LINEAR = itf.Linear()
SHARDS = 64
QUIET = {"dashboard_address": ":0", "silence_logs": 50}  # workers that are killed say so
LOST = "distributed.deploy.lost-worker-timeout"


@pytest.fixture(scope="module", autouse=True)
def patience():
    """A LocalCluster gives up workers that are not back in 15 s, which they need to start on a busy machine."""
    with dask.config.set({LOST: "10 minutes"}):
        yield


@pytest.fixture(scope="module")
def cluster(patience):
    with distributed.LocalCluster(n_workers=4, threads_per_worker=1, **QUIET) as made:
        yield made


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster, set_as_default=False) as made:
        made.wait_for_workers(4)
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows")
    np.save(path / "rows.npy", problems.problem("digits").rows.astype(np.float32))
    return path


def single_machine(rows, x, t):
    """The merge of 64 partials, with the second round."""
    cuts = [k * len(rows) // SHARDS for k in range(SHARDS + 1)]
    fields = [(itf.Field(rows[a:b]), a) for a, b in zip(cuts, cuts[1:], strict=False)]
    whole = itf.merge([f.partial(x, t, 2, first_row=a) for f, a in fields])
    if whole.unsettled.any():
        whole = itf.merge([f.partial(x, t, 2, first_row=a, precise=whole.unsettled) for f, a in fields])
    return whole


def kill(client, after, count=1):
    """SIGKILL to some workers, some time from now."""
    victims = list(client.run(os.getpid).values())[:count]

    def strike():
        for victim in victims:
            os.kill(victim, signal.SIGKILL)

    timer = threading.Timer(after, strike)
    timer.start()
    return timer


def slowly(path):
    """Rows of 64 shards, of which two are slow to be read."""

    def source(number):
        import time

        import numpy as np

        time.sleep(1.0 if number in (3, 40) else 0.0)
        rows = np.load(path)
        return rows[number * len(rows) // 64 : (number + 1) * len(rows) // 64]

    return source


def test_the_bits_of_one_machine_and_of_a_job_array(client, folder, tmp_path):
    """64 shards, 4 workers, the same in files; queries of which some need the second round."""
    rows = np.load(folder / "rows.npy")
    field = itf.distributed.Field(client, folder / "rows.npy", shards=SHARDS)
    t = 1 / 1.5
    x = problems.forward(rows, t, 1 - t, 40, 1)
    want, got = single_machine(rows, x, t).posterior(), field.posterior(x, t, 2)
    for name in vars(want):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), err_msg=name)
    np.savez(tmp_path / "q.npz", x=x, t=t)
    files = [str(tmp_path / f"p{k}.npz") for k in range(SHARDS)]
    for k, path in enumerate(files):
        arguments = [str(folder / "rows.npy"), "--queries", str(tmp_path / "q.npz"), "--shard", f"{k}/{SHARDS}"]
        assert main(["partial", *arguments, "--out", path, "--top", "2", "--precise"]) == 0
    assert main(["merge", *files, "--out", str(tmp_path / "posterior.npz")]) == 0
    written = np.load(tmp_path / "posterior.npz")
    precise = itf.merge([itf.Partial.load(path) for path in files]).posterior()
    part = field.partial(x, t, 2, precise=True).posterior()
    for name in vars(precise):
        np.testing.assert_array_equal(getattr(part, name), getattr(precise, name), err_msg=name)
        np.testing.assert_array_equal(written[name], getattr(precise, name), err_msg=name)


def test_a_killed_worker_changes_no_bit(client, folder):
    """In the middle of a run, and of a question; a fifth worker that joins then has its share of them."""
    field = itf.distributed.Field(client, slowly(folder / "rows.npy"), LINEAR, shards=SHARDS)
    steps = itf.ddpm(LINEAR, 4)
    want = itf.sample(field, steps, 20, rng=1)
    killed = []

    def progress(done, rows):
        if done == 2:
            killed.append(kill(client, 0.05))

    got = itf.sample(field, steps, 20, rng=1, progress=progress)
    assert len(killed) == 1
    for name in ("x", "index", "commit_time", "certificate"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), err_msg=name)
    x = field.draw(30, 0.6, rng=2)[0]
    before = field.posterior(x, 0.6, 2)
    timer = kill(client, 0.0)
    after = field.posterior(x, 0.6, 2)
    timer.join()
    for name in vars(before):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name), err_msg=name)
    client.wait_for_workers(4)


def test_all_workers_killed(folder, monkeypatch):
    """In mid-step. They are started again, and no bit changes; or not, which is an error, until there are others.

    Questions are tasks of their own, as large ones are.
    """
    monkeypatch.setattr("interp_fast.distributed._shards._SMALL", 0)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(2)
        field = itf.distributed.Field(client, slowly(folder / "rows.npy"), LINEAR, shards=SHARDS)
        steps = itf.ddpm(LINEAR, 4)
        want = itf.sample(field, steps, 20, rng=1)

        def progress(done, rows):
            if done == 2:
                kill(client, 0.05, 2)

        got = itf.sample(field, steps, 20, rng=1, progress=progress)
        np.testing.assert_array_equal(got.x, want.x)
        client.wait_for_workers(2)
        short = itf.distributed.Field(client, folder / "rows.npy", LINEAR, shards=SHARDS, timeout=2)
        want = itf.sample(short, steps, 20, rng=1)
        with (
            dask.config.set({LOST: "0.01s"}),
            pytest.raises(RuntimeError, match=r"the cluster has had no worker for 2 s. Start workers"),
        ):
            itf.sample(short, steps, 20, rng=1, progress=progress)
        cluster.scale(2)
        client.wait_for_workers(1)
        np.testing.assert_array_equal(itf.sample(short, steps, 20, rng=1).x, want.x)


def test_workers_that_join_late(folder):
    """A field waits for the first one; a later one takes part; and the last one leaves in good order."""
    rows = np.load(folder / "rows.npy")
    x = problems.forward(rows, 0.6, 0.4, 8, 1)
    with (
        distributed.LocalCluster(n_workers=0, threads_per_worker=1, **QUIET) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        timer = threading.Timer(1.0, cluster.scale, (1,))
        timer.start()
        field = itf.distributed.Field(client, folder / "rows.npy", shards=8)
        timer.join()
        want = field.denoiser(x, 0.6)
        cluster.scale(2)
        client.wait_for_workers(2)
        np.testing.assert_array_equal(field.denoiser(x, 0.6), want)
        client.retire_workers(list(client.nthreads())[:1])
        np.testing.assert_array_equal(field.denoiser(x, 0.6), want)


def test_a_corrupt_shard_stops_the_run(client, folder, tmp_path):
    """With its name, at once; a field that has it in memory goes on."""
    rows = np.load(folder / "rows.npy")
    for k, values in enumerate(np.array_split(rows, 8)):
        np.save(tmp_path / f"{k}.npy", values)
    files = [tmp_path / f"{k}.npy" for k in range(8)]
    field = itf.distributed.Field(client, files)
    whole = files[5].read_bytes()
    files[5].write_bytes(whole[:200] + b"\xff" * 64 + whole[264:])
    with pytest.raises(ValueError, match=r"shard 5 of 8 .*5.npy.*must be finite; got nan in row 0, .*row 0 of .*5.npy"):
        itf.distributed.Field(client, files)
    files[5].write_bytes(whole[:-8])
    with pytest.raises(ValueError, match=r"shard 5 of 8: .*5.npy has \d+ bytes, and its header promises \d+"):
        itf.distributed.Field(client, files)
    x = rows[:3] * 0.5
    want = field.denoiser(x, 0.5)  # from memory
    files[5].write_bytes(whole)
    np.testing.assert_array_equal(itf.distributed.Field(client, files).denoiser(x, 0.5), want)


def test_a_shard_that_ends_its_workers(client):
    def source(number):
        if number == 1:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)
        import numpy as np

        return np.ones((4, 2)) * number

    with pytest.raises(RuntimeError, match="shard of shard 1 ended all workers that tried it"):
        itf.distributed.Field(client, source, shards=3)
    client.wait_for_workers(4)


def test_two_clients_and_one_that_leaves(client, cluster, folder):
    """Each has its own shards and its own bits; one that is gone in the middle of a question leaves nothing behind."""
    rows = np.load(folder / "rows.npy")
    x = problems.forward(rows, 0.6, 0.4, 300, 1)
    mine = itf.distributed.Field(client, folder / "rows.npy", shards=8)
    want, found = mine.denoiser(x, 0.6), []
    with distributed.Client(cluster, set_as_default=False) as second:
        other = itf.distributed.Field(second, folder / "rows.npy", shards=8)
        thread = threading.Thread(target=lambda: found.extend(other.denoiser(x, 0.6) for _ in range(4)))
        thread.start()
        for _ in range(4):
            np.testing.assert_array_equal(mine.denoiser(x, 0.6), want)
        thread.join()
    for one in found:
        np.testing.assert_array_equal(one, want)
    code = f"""
import os, threading, numpy as np, interp_fast as itf, distributed
client = distributed.Client({client.scheduler.address!r})
field = itf.distributed.Field(client, {str(folder / "rows.npy")!r}, shards=8)
x = field.draw(4000, 0.5, rng=0)[0]
print("asks", flush=True)
threading.Timer(0.3, os._exit, (9,)).start()
while True:
    field.denoiser(x, 0.5)
"""
    gone = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert (gone.returncode, gone.stdout) == (9, "asks\n"), gone.stderr
    np.testing.assert_array_equal(mine.denoiser(x, 0.6), want)
    for _ in range(100):
        held = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
        if held <= 8:
            break
        time.sleep(0.1)
    assert held <= 8  # the shards of this client


def test_a_worker_of_another_version_is_named(client, folder):
    field = itf.distributed.Field(client, folder / "rows.npy", shards=8)
    address = next(iter(client.nthreads()))

    def set_version(version):
        import interp_fast

        interp_fast.__version__ = version

    client.run(set_version, "0.1.0", workers=[address])
    with pytest.raises(ValueError, match=rf"version of interp_fast, {itf.__version__}; got 0.1.0 on {address}"):
        itf.distributed.Field(client, folder / "rows.npy", shards=8)
    with pytest.raises(ValueError, match=rf"version of interp_fast, {itf.__version__}; got 0.1.0 on {address}"):
        field.denoiser(np.ones((2, 64)), 0.5)
    client.run(set_version, itf.__version__, workers=[address])


def test_restarted_and_closed_clusters_are_an_error(folder):
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, **QUIET) as cluster:
        client = distributed.Client(cluster, set_as_default=False)
        field = itf.distributed.Field(client, folder / "rows.npy", shards=2)
        client.restart()
        with pytest.raises(RuntimeError, match="the cluster has forgotten the rows"):
            field.denoiser(np.ones((2, 64)), 0.5)
        client.close()
        with pytest.raises(RuntimeError, match="client must be connected; it is closed"):
            field.denoiser(np.ones((2, 64)), 0.5)


def test_a_report_by_two_workers(tmp_path, capsys):
    """The same page as that of one process, but for roundings."""
    arguments = ["report", "digits", "--rows", "60", "-n", "4", "--steps", "3", "--json"]
    assert main([*arguments, "--workers", "2", "--out", str(tmp_path / "two")]) == 0
    two = json.loads(capsys.readouterr().out)
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    one = json.loads(capsys.readouterr().out)
    assert two["data"] == one["data"]
    assert two["conclusions"] == one["conclusions"]
    assert "2 workers" in two["verdict"]["computed by"]
    a, b = (np.load(tmp_path / name / "samples.npz")["ddpm_x"] for name in ("two", "one"))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_the_example_of_the_page(tmp_path):
    """As a script, whose workers are processes."""
    page = (Path(__file__).parent.parent / "docs" / "clusters.md").read_text("utf-8")
    (tmp_path / "example.py").write_text(re.search(r"```python\n(.*?)```", page, flags=re.DOTALL)[1])
    run = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "index        int64 (16,)" in run.stdout
