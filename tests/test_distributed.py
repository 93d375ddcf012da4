"""Rows on many machines: the bits of merged partials, whatever the source; samples and nearest rows of one machine."""

from __future__ import annotations

import copy
import pickle
import time

import numpy as np
import problems
import pytest

import interp_fast as itf
from interp_fast._cli import main
from interp_fast.backends import merging

distributed = pytest.importorskip("distributed")
SHARDS = 5
METHODS = ("denoiser", "velocity", "score", "noise", "log_density", "divergence")
LINEAR = itf.Linear()


@pytest.fixture(scope="module")
def client():
    """Workers in threads of this process: the same messages, and quick to start."""
    options = {"n_workers": 2, "threads_per_worker": 2, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster, set_as_default=False) as made:
        yield made


@pytest.fixture
def rows(tmp_path, dtype):
    values = problems.problem("near_duplicates").rows.astype(dtype)
    np.save(tmp_path / "rows.npy", values)
    return values


def edges(n, shards=SHARDS):
    return [k * n // shards for k in range(shards + 1)]


def single(values, x, t, top=0, shards=SHARDS, **options):
    """What one machine makes of the same parts, with a second round where it is needed; and whether it was."""
    weights = options.pop("weights", None)
    cuts = list(zip(edges(len(values), shards), edges(len(values), shards)[1:], strict=False))
    fields = [itf.Field(values[a:b], weights=None if weights is None else weights[a:b], **options) for a, b in cuts]

    def merged(precise=None):
        parts = [f.partial(x, t, top, first_row=a, precise=precise) for f, (a, _) in zip(fields, cuts, strict=True)]
        return itf.merge(parts)

    whole = merged()
    doubt = whole.unsettled
    return (merged(doubt) if doubt.any() else whole), doubt


def same_bits(field, whole, x, t, top):
    got, want = field.posterior(x, t, top), whole.posterior()
    for name in vars(want):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), err_msg=f"{name} at {t}")


@pytest.mark.parametrize("t", [0.0, 1 / 1.5, 0.99, 1.0])
def test_the_bits_of_merged_partials(client, tmp_path, rows, dtype, t, monkeypatch):
    """At both ends, and where some queries need the second round: as many as if less were promised.

    With questions as tasks of their own, as large ones are, at one of these times.
    """
    if t == 0.99:
        monkeypatch.setattr("interp_fast.distributed._shards._SMALL", 0)
    if t == 1 / 1.5:
        monkeypatch.setattr(merging, "_PART", {"float32": 0.2, "float64": 1e-4}[dtype])
    x = problems.forward(rows, t, 1 - t, 40, 1)
    field = itf.distributed.Field(client, tmp_path / "rows.npy", LINEAR, shards=SHARDS)
    whole, doubt = single(rows, x, t, 3)
    assert (0 < doubt.sum() < len(x)) == (t == 1 / 1.5)
    same_bits(field, whole, x, t, 3)
    whole, doubt = single(rows, x, t)
    for name in METHODS[: 1 if t == 1 else None]:
        if name != "velocity" or t > 0:
            np.testing.assert_array_equal(getattr(field, name)(x, t), getattr(whole, name)(), err_msg=name)
    assert field.denoiser(x, t).dtype == dtype
    part = field.partial(x, t, precise=doubt if doubt.any() else None, first_row=1000)
    np.testing.assert_array_equal(part.denoiser(), whole.denoiser())
    assert part.rows == ((1000, 1000 + len(rows)),)
    assert part.posterior().log_norm.tobytes() == whole.posterior().log_norm.tobytes()


@pytest.mark.parametrize("block", [0, 1])
def test_a_block_without_precise_queries(client, tmp_path, rows, block, monkeypatch):
    """Beside one that has some, which knows its means to more digits."""
    monkeypatch.setattr("interp_fast.distributed._shards.BLOCK", 10)
    x, precise = problems.forward(rows, 0.6, 0.4, 20, 1), np.zeros(20, bool)
    precise[10 * block + 3] = True
    field = itf.distributed.Field(client, tmp_path / "rows.npy", LINEAR, shards=SHARDS)
    got, want = (part.posterior() for part in (field.partial(x, 0.6, precise=precise), field.partial(x, 0.6)))
    np.testing.assert_allclose(got.mean, want.mean, atol=1e-5)
    np.testing.assert_array_equal(got.mean[~precise], want.mean[~precise])


def test_options_and_bytes(client, tmp_path):
    """Weights over 300 decades, a bandwidth, a tolerance, bytes with a scale; the shape of the rows."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 255, (60, 2, 3, 2), dtype=np.uint8)
    np.save(tmp_path / "rows.npy", values)
    weights = 10.0 ** -rng.uniform(0, 300, 60)
    options = {"bandwidth": 0.1, "tol": 1e-3, "scale": (0.01, -1.0), "weights": weights}
    field = itf.distributed.Field(client, str(tmp_path / "rows.npy"), shards=SHARDS, **options)
    whole, _ = single(values, x := rng.standard_normal((7, 12)), 0.6, 2, **options)
    same_bits(field, whole, x, 0.6, 2)
    assert field.event == (2, 3, 2)
    assert field.denoiser(x.reshape(7, 2, 3, 2), 0.6).shape == (7, 2, 3, 2)
    np.testing.assert_allclose(field.R, itf.Field(values, **options).R, rtol=1e-12)
    assert (field.N, field.shards, field.backend) == (60, SHARDS, itf.Field(values).backend)
    assert "shards=5" in repr(field)


class Chosen:
    """A function of the shard number."""

    def __init__(self, path):
        self.path = path

    def __call__(self, number):
        values = np.load(self.path)
        cuts = edges(len(values))
        return values[cuts[number] : cuts[number + 1]]


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_every_source(client, tmp_path, rows):
    """Shards of the same rows have the same bits wherever they come from."""
    zarr = pytest.importorskip("zarr")
    store = zarr.create_array(str(tmp_path / "rows.zarr"), shape=rows.shape, chunks=(70, 24), dtype=rows.dtype)
    store[:] = rows
    files = [tmp_path / f"{k}.npy" for k in range(3)]
    for path, values in zip(files, np.split(rows, [100, 410]), strict=True):
        np.save(path, values)
    x, t = problems.forward(rows, 0.5, 0.5, 9, 1), 0.5
    want = itf.distributed.Field(client, tmp_path / "rows.npy", shards=SHARDS).denoiser(x, t)
    path = tmp_path / "rows.zarr"
    for source in (files, path, zarr.open_array(path), Chosen(tmp_path / "rows.npy")):
        field = itf.distributed.Field(client, source, shards=SHARDS, weights=np.ones(len(rows)))
        np.testing.assert_array_equal(field.denoiser(x, t), want)
    assert itf.distributed.Field(client, files).shards == 3  # each file is one
    by_address = itf.distributed.Field(client.scheduler.address, files, shards=SHARDS)
    np.testing.assert_array_equal(by_address.denoiser(x, t), want)
    by_address.close()


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_blocks_of_queries(client, tmp_path, rows):
    """1024 queries are one block; of more, each block is as if it came alone."""
    field = itf.distributed.Field(client, tmp_path / "rows.npy", shards=SHARDS)
    t = np.linspace(0.2, 0.9, 2500)
    x = problems.forward(rows, 0.6, 0.4, 2500, 1)
    got = field.posterior(x, t)
    for first in (0, 1024, 2048):
        some = slice(first, first + 1024)
        alone = field.posterior(x[some], t[some])
        for name in vars(alone):
            np.testing.assert_array_equal(getattr(got, name)[some], getattr(alone, name))
    np.testing.assert_array_equal(field.partial(x, t).denoiser()[2048:], field.partial(x[2048:], t[2048:]).denoiser())
    assert field.denoiser(x[:0], 0.5).shape == (0, 24)
    assert field.denoiser(x[0], 0.5).shape == (24,)


SOLVERS = {
    "euler": itf.euler,
    "heun": itf.heun,
    "ddim": itf.ddim,
    "ddpm": itf.ddpm,
    "euler_maruyama": lambda schedule, times: itf.euler_maruyama(schedule, times, "sigma"),
    "exponential": lambda schedule, times: itf.exponential(schedule, times, churn=1.0),
    "exponential_heun": itf.exponential_heun,
    "multistep": itf.multistep,
}


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_samples_are_those_of_one_machine(client, tmp_path, rows):
    """All solvers, with terms; a path, an error, attribution and a tolerance; what was drawn."""
    far = itf.distributed.Field(client, tmp_path / "rows.npy", LINEAR, shards=3)
    here = itf.Field(rows, LINEAR)
    for name, solver in SOLVERS.items():
        a, b = (itf.sample(f, solver(LINEAR, 4), 6, rng=1, terms=True) for f in (far, here))
        np.testing.assert_allclose(a.x, b.x, rtol=1e-9, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(a.terms.noise, b.terms.noise, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(a.index, b.index)
    options = {"x0": here.draw(6, 0.2, rng=3)[0], "rng": 1, "keep": "path", "attribution": True, "tol": 1e-6}
    steps = itf.ddim(LINEAR, np.linspace(0.2, 1, 4))
    a, b = (itf.sample(f, steps, error=itf.perturb.constant(1e-3), **options) for f in (far, here))
    np.testing.assert_allclose(a.path, b.path, atol=1e-4)
    np.testing.assert_allclose(a.attribution.toarray(), b.attribution.toarray(), atol=1e-4)
    first, second = far.draw(5, 0.5, rng=1), here.draw(5, 0.5, rng=1)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
@pytest.mark.filterwarnings("ignore:the model.s velocity loss near the data end")  # it is no model of these data
def test_what_takes_a_field_takes_this_one(client, tmp_path, rows):
    far, here = itf.distributed.Field(client, tmp_path / "rows.npy", shards=3), itf.Field(rows)
    x = problems.forward(rows, 0.6, 0.4, 6, 1)
    np.testing.assert_allclose(far.jvp(x, 0.6, x[::-1].copy()), here.jvp(x, 0.6, x[::-1].copy()), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(far.at(0.5, 0.3).score(x), here.at(0.5, 0.3).score(x), rtol=1e-4, atol=1e-4)
    for a, b in ((far, here), (here, here)):
        found, want = itf.memorization(x, a, radius=0.1, rng=0), itf.memorization(x, b, radius=0.1, rng=0)
        for name in ("d1", "d2", "index", "precision", "coverage"):
            np.testing.assert_array_equal(getattr(found, name), getattr(want, name))
    a, b = itf.nearest(x, far, k=90, metric="cosine"), itf.nearest(x, rows, k=90, metric="cosine")
    np.testing.assert_array_equal(a.index, b.index)
    a, b = (itf.optimal_loss(f, [0.3, 0.6], 64, rng=0) for f in (far, here))
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-4)
    np.testing.assert_allclose(a.stderr, b.stderr, rtol=1e-4)
    assert a.method.tolist() == b.method.tolist() == ["plain", "pairs"]
    model = itf.Model(lambda x, t: -x, LINEAR, predicts="denoiser")
    a, b = (itf.compare(model, f, [0.5], 16, rng=0) for f in (far, here))
    np.testing.assert_allclose(a.mse, b.mse, rtol=1e-4)
    np.testing.assert_array_equal(far.subset([599, 3]).denoiser(x, 0.5), here.subset([599, 3]).denoiser(x, 0.5))
    assert far.with_schedule(itf.VP()).denoiser(x, 0.5).shape == x.shape


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_equal_rows_of_different_shards(client, tmp_path, rows):
    """Tie to the lowest row, also among nearest rows."""
    rows[[7, 300, 599]] = rows[150]
    np.save(tmp_path / "tied.npy", rows)
    field = itf.distributed.Field(client, tmp_path / "tied.npy", shards=SHARDS)
    post = field.posterior(0.9 * rows[150].astype(float), 0.9, top=4)
    assert (post.index, post.gap) == (7, 0.0)
    np.testing.assert_array_equal(post.top_index, [7, 150, 300, 599])
    np.testing.assert_array_equal(itf.nearest(rows[[150]], field, k=4).index, [[7, 150, 300, 599]])


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_copies_connect_to_the_same_scheduler(client, tmp_path, rows):
    field = itf.distributed.Field(client, tmp_path / "rows.npy", shards=SHARDS)
    x = problems.forward(rows, 0.5, 0.5, 9, 1)
    want = field.denoiser(x, 0.5)
    sent = pickle.dumps(field)
    assert len(sent) < 20_000  # no rows
    for other in (pickle.loads(sent), copy.deepcopy(field), copy.copy(field)):
        np.testing.assert_array_equal(other.denoiser(x, 0.5), want)
        assert repr(other) == repr(field)
        if other.client is not client:
            other.close()


def test_the_default_number_of_shards_is_that_of_the_data():
    from interp_fast.distributed._sources import default_shards

    assert default_shards((1000, 3072), 1) == 1
    assert default_shards((1797, 64), 4) == 2
    assert default_shards((60_000, 784), 4) == 16
    assert default_shards((1_280_000, 12_288), 1) == 59


# Bad input


def cut_off(path):
    (path / "rows.npy").write_bytes((path / "rows.npy").read_bytes()[:-100])


def spoiled(path):
    values = np.load(path / "rows.npy")
    values[250, 3] = np.nan
    np.save(path / "rows.npy", values)


def wide(path):
    np.save(path / "wide.npy", np.ones((4, 25), np.float32))


BAD = [
    (lambda p: "nowhere.npy", {}, OSError, "there is no .*nowhere.npy where a worker looks for it"),
    (lambda p: [p / "rows.npy", p / "wide.npy"], {}, ValueError, r"same type and shape.*\(24,\) in .*rows.npy and"),
    (lambda p: np.load(p / "rows.npy"), {}, TypeError, "source must be the path .* got ndarray. Save it with np.save"),
    (lambda p: 3, {}, TypeError, "source must be the path .* got int"),
    (lambda p: Chosen(p / "rows.npy"), {}, ValueError, "shards must be given when source is a function"),
    (lambda p: p / "rows.npy", {"shards": 601}, ValueError, "shards must be >= 1 and <= 600; got 601"),
    (lambda p: p / "rows.npy", {"shards": 2.0}, TypeError, "shards must be an int; got 2.0"),
    (lambda p: p / "rows.npy", {"weights": np.ones(3)}, ValueError, r"weights must have shape \(600,\)"),
    (lambda p: p / "rows.npy", {"weights": np.arange(600) > 300, "shards": 2}, TypeError, "weights must be a real"),
    (lambda p: p / "rows.npy", {"weights": 1.0 * (np.arange(600) > 300), "shards": 3}, ValueError, "those of shard 0"),
    (lambda p: p / "rows.npy", {"backend": "fast"}, ValueError, "shard 0 of 1 .*backend must be one of"),
    (lambda p: p / "rows.npy", {"tol": -1.0}, ValueError, "tol must be finite and >= 0"),
    (lambda p: p / "rows.npy", {"scale": (1, 0)}, ValueError, "shard 0 of 1 .*rows.npy.*scale belongs to uint8 data"),
]


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
@pytest.mark.parametrize(("source", "options", "kind", "words"), BAD)
def test_bad_input(client, tmp_path, rows, source, options, kind, words):
    wide(tmp_path)
    with pytest.raises(kind, match=words) as caught:
        itf.distributed.Field(client, source(tmp_path), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_bad_rows_are_named(client, tmp_path, rows):
    """The shard, its file and the row, there and in the whole."""
    make = itf.distributed.Field
    spoiled(tmp_path)
    words = r"shard 2 of 5 \(rows 240 to 359, .*rows.npy\): .*nan in row 10, column 3 \(row 250 of .*rows.npy\)"
    with pytest.raises(ValueError, match=words):
        make(client, tmp_path / "rows.npy", shards=5)
    np.save(tmp_path / "good.npy", rows)
    files = [tmp_path / "good.npy", tmp_path / "rows.npy"]
    with pytest.raises(ValueError, match=r"good.npy and .*rows.npy\): .*nan in row 850, .* \(row 250 of .*rows.npy\)"):
        make(client, files, shards=1)
    with pytest.raises(ValueError, match=r"shard 1 of 2 \(rows 600 to 1199, .*rows.npy\): .*nan in row 250, .*npy"):
        make(client, files)
    with pytest.raises(ValueError, match=r"shard 2 of 5 \(source\(2\)\): .*\(row 10 of source\(2\)\)"):
        make(client, Chosen(tmp_path / "rows.npy"), shards=5)
    with pytest.raises(RuntimeError, match=r"shard [56] of 7 \(source\([56]\)\): IndexError: list index out of range"):
        make(client, Chosen(tmp_path / "good.npy"), shards=7)
    cut_off(tmp_path)
    with pytest.raises(ValueError, match=r"rows.npy has \d+ bytes, and its header promises \d+: it is cut off"):
        make(client, tmp_path / "rows.npy", shards=5)
    with pytest.raises(ValueError, match=r"shard 1 of 2: .*rows.npy has \d+ bytes"):
        make(client, files)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_clients_and_versions(client, tmp_path, rows, monkeypatch):
    path = tmp_path / "rows.npy"
    with pytest.raises(TypeError, match="client must be a distributed.Client, a cluster or the address.*got int"):
        itf.distributed.Field(3, path)
    with pytest.raises(
        ValueError, match=r"client must be the address of a scheduler.*got 'host' \(missing port number"
    ):
        itf.distributed.Field("host", path)
    field = itf.distributed.Field(client, path, shards=2)
    with distributed.Client(client.scheduler.address, set_as_default=False) as other:
        second = itf.distributed.Field(other, path, shards=2)
        np.testing.assert_array_equal(second.denoiser(rows[:2], 0.5), field.denoiser(rows[:2], 0.5))
    with pytest.raises(RuntimeError, match="client must be connected; it is closed. Make the field anew"):
        second.denoiser(rows[:2], 0.5)
    assert field.denoiser(rows[:2], 0.5).shape == (2, 24)
    monkeypatch.setattr(type(field._oracle.training_set.rows), "_version", "0.1.0")
    with pytest.raises(ValueError, match=rf"the client's version of interp_fast, 0.1.0; got {itf.__version__} on "):
        itf.distributed.Field(client, path, shards=2)
    with pytest.raises(ValueError, match=rf"the client's version of interp_fast, 0.1.0; got {itf.__version__} on "):
        field.denoiser(rows[:2], 0.5)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_a_cluster_without_workers(tmp_path, rows):
    """No call waits for ever, whether they are gone or paused; with others the same field has the same bits."""
    path, x = tmp_path / "rows.npy", rows[:3] * 0.5
    options = {"threads_per_worker": 1, "processes": False, "dashboard_address": ":0", "memory_limit": 0}
    with (
        distributed.LocalCluster(n_workers=0, **options) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        gone = r"the cluster has had no worker for 0.3 s. Start workers, with cluster.scale\(n\) say, or wait longer"
        with pytest.raises(RuntimeError, match=gone):
            itf.distributed.Field(client, path, shards=2, timeout=0.3)
        cluster.scale(2)
        client.wait_for_workers(2)
        field = itf.distributed.Field(client, path, shards=2, timeout=0.3)
        want = field.denoiser(x, 0.5)

        def turn(status, dask_worker):
            dask_worker.status = distributed.core.Status[status]

        client.run(turn, "paused")
        with pytest.raises(RuntimeError, match=r"all 2 workers of the cluster have been paused, .* for 0.3 s"):
            field.denoiser(x, 0.5)
        client.run(turn, "running")
        np.testing.assert_array_equal(field.denoiser(x, 0.5), want)
        cluster.scale(0)
        while client.nthreads():
            time.sleep(0.05)
        with pytest.raises(RuntimeError, match=gone):
            field.denoiser(x, 0.5)
        cluster.scale(1)
        client.wait_for_workers(1)
        np.testing.assert_array_equal(field.denoiser(x, 0.5), want)
        for timeout, error in ((0, ValueError), (np.nan, ValueError), ("1", TypeError)):
            with pytest.raises(error, match="timeout must be"):
                itf.distributed.Field(client, path, shards=2, timeout=timeout)


@pytest.mark.parametrize("dtype", ["float32"], indirect=True)
def test_groups_are_for_one_machine(client, tmp_path, rows):
    field = itf.distributed.Field(client, tmp_path / "rows.npy", shards=2)
    calls = {
        "given": lambda: field.given(1),
        "guided": lambda: field.guided([1], 2.0),
        "class_posterior": lambda: field.class_posterior(rows[:1], 0.5),
        "without": lambda: field.without([0]),
        "tempered": lambda: field.tempered(2.0),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"{name} is for rows on one machine; got a distributed.Field"):
            call()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], "not allowed with argument --workers"),
        (["--workers", "0"], "'0' is not an integer of at least 1"),
        (["--workers", "2", "--threads", "2"], "--threads is for one process; with --workers or --scheduler set"),
        (["--samples", "a.npy", "--workers", "2"], "--workers belongs to a report about a training set"),
    ],
)
def test_workers_of_a_report(arguments, words, tmp_path, capsys):
    assert main(["report", "digits", "--out", str(tmp_path / "page"), *arguments]) == 2
    assert words in capsys.readouterr().err
