"""Rows of several parts: terms by hand, the same model as one array, closed forms and quadrature.

Parts have shapes and outputs per entry that no other can stand for.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize, stats
from scipy.special import log_softmax, softmax

import infer
from infer.amortized.parts import split
from infer.likelihoods import (
    Bernoulli,
    Categorical,
    DecodedScale,
    Gaussian,
    NegativeBinomial,
    Parts,
    likelihood_for,
)

QUIET = {"progress": False, "key": 0}
KINDS = {
    "bits": Bernoulli(),
    "classes": Categorical(5),
    "heights": Gaussian(DecodedScale()),
    "kind": Categorical(3),
}
COUNTED = KINDS | {"counts": NegativeBinomial()}


def mixed(n=40, seed=0):
    """Rows of four parts that share one latent number."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    return {
        "bits": (rng.random((n, 2, 3)) < 1 / (1 + np.exp(-2 * z[:, None, None]))).astype(np.uint8),
        "classes": np.clip(np.round(2 + z[:, None] + rng.normal(size=(n, 4))), 0, 4).astype(int),
        "heights": 170 + 8 * z[:, None] + rng.normal(size=(n, 2)),
        "kind": (z > 0).astype(int) + (z > 1),
    }


def counted():
    """The same with a fifth part, of counts."""
    return mixed() | {"counts": np.random.default_rng(6).poisson(50, size=40)}


def some(rows, index):
    return jax.tree.map(lambda part: part[index], rows)


SMALL = {"latent": 1, "encoder": infer.MLP((5,)), "decoder": infer.MLP((4,))}


CONDITION = {  # a tree of other parts than the rows
    "dose": np.random.default_rng(9).normal(size=(40, 1)),
    "site": np.random.default_rng(10).integers(0, 4, 40),
}


@pytest.fixture(scope="module")
def data():
    rows = mixed()
    mask = {name: None for name in rows} | {
        "classes": np.random.default_rng(3).random((40, 4)) < 0.7,
        "kind": np.arange(40) % 3 > 0,
    }
    return infer.Data(rows, batch_size=16, mask=mask, condition=CONDITION)


@pytest.fixture(scope="module")
def vae():
    return infer.VAE(KINDS, **SMALL)


@pytest.fixture(scope="module")
def result(data, vae):
    return infer.fit(data, vae, steps=150, **QUIET)


SIZES = {"bits": 6, "classes": 20, "counts": 1, "heights": 4, "kind": 3}  # of outputs


def cut(outputs, names):
    """The outputs of each part, along the last axis."""
    cuts = np.cumsum([SIZES[name] for name in names])
    assert outputs.shape[-1] == cuts[-1]
    return dict(zip(names, np.split(np.asarray(outputs, float), cuts[:-1], axis=-1), strict=True))


def by_hand(likelihood, outputs, row):
    """Terms of one row by SciPy, by name; `outputs` is the vector of a decoder."""
    out = cut(outputs, sorted(row))
    parts = dict(zip(sorted(row), likelihood.parts, strict=True))
    mean, raw = out["heights"].reshape(2, 2)
    scale = parts["heights"].scale.unit * (1e-3 + np.exp(raw))
    classes = log_softmax(out["classes"].reshape(5, 4), axis=0)
    logits = out["bits"].reshape(2, 3)
    terms = {
        "bits": stats.bernoulli.logpmf(row["bits"], 1 / (1 + np.exp(-logits))),
        "classes": classes[row["classes"], np.arange(4)],
        "heights": stats.norm.logpdf(row["heights"], mean, scale),
        "kind": log_softmax(out["kind"])[row["kind"]],
    }
    if "counts" in row:
        total = np.exp(float(parts["counts"].log_total))
        p = 1 / (1 + np.exp(out["counts"][0]))
        terms["counts"] = stats.nbinom.logpmf(row["counts"], total, p)
    return terms


def joined(tree):
    return np.concatenate([np.ravel(tree[name]) for name in sorted(tree)])


def test_terms_means_and_averages_by_hand(x64):
    rows = counted()
    data = infer.Data(rows)
    likelihood = Parts(COUNTED).on(data.layout).init(np.asarray(data.rows.x))
    outputs = jnp.asarray(np.random.default_rng(1).normal(size=(7, 34)))
    row = some(rows, 11)
    found = jax.jit(jax.vmap(likelihood.log_prob, (0, None)))(outputs, data.rows.x[11])
    wanted = [joined(by_hand(likelihood, one, row)) for one in outputs]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    # The average over draws: of classes the most probable one of the mixture.
    weights = np.random.default_rng(2).dirichlet(np.ones(7))
    average = eqx.filter_jit(likelihood.average)(jnp.asarray(weights), outputs)
    average, out = data.layout.typed().unravel(average), cut(outputs, sorted(rows))
    p = np.tensordot(weights, softmax(out["classes"].reshape(7, 5, 4), axis=1), 1)
    np.testing.assert_array_equal(average["classes"], np.argmax(p, axis=0))
    np.testing.assert_allclose(average["heights"], weights @ out["heights"][:, :2], rtol=1e-12)
    total = np.exp(float(likelihood.parts[2].log_total))
    np.testing.assert_allclose(average["counts"], weights @ (total * np.exp(out["counts"][:, 0])))
    mean = data.layout.typed().unravel(likelihood.mean(outputs[0]))
    np.testing.assert_allclose(mean["bits"], 1 / (1 + np.exp(-out["bits"][0].reshape(2, 3))))
    np.testing.assert_array_equal(mean["kind"], np.argmax(out["kind"][0]))


def test_first_outputs_are_those_of_the_parts(x64):
    """Also where entries are missing; the order is that of the names."""
    rows = counted()
    holes = np.random.default_rng(5).random((40, 4)) < 0.6
    data = infer.Data(rows, mask={name: None for name in rows} | {"classes": holes})
    ready = infer.VAE(COUNTED, **SMALL).ready(data)
    nan = rows | {"classes": np.where(holes, rows["classes"], np.nan)}
    alone = {name: COUNTED[name].init(nan[name]) for name in COUNTED}
    wanted = joined({name: alone[name].start(nan[name]) for name in COUNTED})
    np.testing.assert_allclose(ready.start, wanted, rtol=1e-12)
    assert ready.likelihood.parts[2].log_total == alone["counts"].log_total


def bound(vae, data, key):
    """The bound of every row, as a step of the optimizer gets it."""
    vae = vae.ready(data)
    trained, rest = split(vae.init(jax.random.key(3), data).model)

    @jax.jit
    def bounds(trained):
        return vae._loss(key, data, trained, rest, jnp.zeros((), int))[1][0].values

    return bounds(trained)


def test_one_array_in_parts_is_the_same_model(x64, key):
    x = np.random.default_rng(0).normal(size=(8, 7)) * np.arange(1, 8)
    seen = np.random.default_rng(1).random((8, 7)) < 0.8

    def halves(values):
        return {"b": values[:, 6], "a": (values[:, :2], values[:, 2:6].reshape(8, 2, 2))}

    settings = SMALL | {"latent": 2, "n_samples": 3, "objective": infer.IWAE()}
    one = infer.VAE(Gaussian(0.7), **settings)
    parts = infer.VAE({"a": (Gaussian(0.7), Gaussian(0.7)), "b": Gaussian(0.7)}, **settings)
    wanted = bound(one, infer.Data(x, mask=seen), key)
    found = bound(parts, infer.Data(halves(x), mask=halves(seen)), key)
    np.testing.assert_allclose(found, wanted, rtol=1e-13)


@pytest.mark.slow
def test_two_parts_of_different_noise_reach_the_optimum(x64):
    """A linear model against the largest likelihood of N(m, W W^T + diag(noise)), by L-BFGS."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6)) + np.arange(6)
    x += rng.normal(size=x.shape) * np.array([1.0, 1.0, 0.2, 0.2, 0.2, 0.2])
    cov, size = np.cov(x, rowvar=False, ddof=0), [2, 4]

    def loss(free):
        w, log_noise = free[:12].reshape(6, 2), jnp.repeat(free[12:], np.array(size))
        model = w @ w.T + jnp.diag(jnp.exp(log_noise))
        value = jnp.trace(jnp.linalg.solve(model, jnp.asarray(cov)))
        return 0.5 * (6 * jnp.log(2 * jnp.pi) + jnp.linalg.slogdet(model)[1] + value)

    start = np.concatenate([rng.normal(size=12), np.zeros(2)])
    best = optimize.minimize(
        jax.jit(loss), start, jac=jax.jit(jax.grad(loss)), method="L-BFGS-B", tol=1e-13
    )
    steps = 3000
    rate = optax.cosine_decay_schedule(3e-2, steps)
    vae = infer.VAE(
        (Gaussian(), Gaussian()),
        latent=2,
        encoder=infer.MLP(()),
        decoder=infer.MLP(()),
        posterior=infer.EvenDraws(infer.FullRank(1.0), infer.SigmaPoints()),
        n_samples=4,
        optimizer=infer.optimizer(optax.adam, learning_rate=rate),
    )
    result = infer.fit(infer.Data((x[:, :2], x[:, 2:])), vae, steps=steps, **QUIET)
    assert -1e-7 < result.history["loss"][0, -1] - best.fun < 1e-6
    scales = [part.scale for part in result.model.likelihood.parts]
    found = [scale.unit * (1e-3 + np.exp(float(scale.raw))) for scale in scales]
    np.testing.assert_allclose(found, np.exp(best.x[12:] / 2), rtol=2e-3)


LINE = np.linspace(-8, 8, 401)


def decoded(result, z, i):
    """Outputs of the decoder at latent points (n,), under the condition of row i."""
    given = jnp.asarray([CONDITION["dose"][i, 0], CONDITION["site"][i]], jnp.float32)
    points = jnp.asarray(z[:, None], jnp.float32)
    return np.asarray(jax.jit(jax.vmap(result.model.decoder, (0, None)))(points, given))


def log_joint(result, outputs, row, mask):
    """log p(x, z) on the grid, by SciPy."""
    terms = [by_hand(result.model.likelihood, out, row) for out in outputs]
    kept = [sum(np.sum(np.where(mask[name], t[name], 0)) for name in t) for t in terms]
    return np.array(kept) + stats.norm.logpdf(LINE)


def test_evidence_and_imputation_by_quadrature(result):
    """One latent variable: log p(observed) and E(missing | observed) on a grid."""
    rows, n = some(mixed(), slice(4)), 4000
    mask = jax.tree.map(lambda part: np.ones(part.shape, bool), rows)
    mask["kind"][:], mask["heights"][1:, 0], mask["classes"][2] = False, False, False
    given = {"condition": some(CONDITION, slice(4)), "n_samples": n}
    found = result.evidence(rows, mask=mask, key=1, **given)
    filled = result.impute(rows, mask, key=2, **given)
    for i in range(4):
        outputs = decoded(result, LINE, i)
        out = cut(outputs, sorted(rows))
        logs = log_joint(result, outputs, some(rows, i), some(mask, i))
        top = np.logaddexp.reduce(logs)
        wanted = top + np.log(LINE[1] - LINE[0])
        assert abs(found.log_evidence[i] - wanted) < 5 * max(found.error[i], 2e-5)
        weights = np.exp(logs - top)
        p = weights @ softmax(out["kind"], axis=1)
        assert np.sort(p)[-1] - np.sort(p)[-2] > 0.05  # or the draws could not tell
        assert filled["kind"][i] == np.argmax(p)
        if i:
            means = out["heights"][:, 0]
            mean = weights @ means
            error = np.sqrt(weights @ (means - mean) ** 2 / n)
            assert abs(filled["heights"][i, 0] - mean) < 6 * error + 1e-3
            last = np.float32(rows["heights"][i, 1])
            np.testing.assert_array_equal(filled["heights"][i, 1], last)
    assert set(filled) == set(rows)
    np.testing.assert_array_equal(filled["bits"], rows["bits"])


def test_what_is_missing_is_not_looked_at(data, vae):
    """Neither NaN nor what is no class; log p(observed) is in the test by quadrature."""
    other = mixed()
    mask = data.layout.tree(data.layout.parts(np.asarray(data.rows.mask)))
    other["classes"] = np.where(mask["classes"], other["classes"], np.nan)
    other["kind"] = np.where(mask["kind"], other["kind"], 17)
    again = infer.Data(other, batch_size=16, mask=mask, condition=CONDITION)
    np.testing.assert_array_equal(again.rows.x, data.rows.x)
    ready, wanted = vae.ready(again), vae.ready(data)
    np.testing.assert_array_equal(ready.start, wanted.start)
    with pytest.raises(ValueError, match="^kind: .*got 17"):
        vae.ready(infer.Data(other, mask=mask | {"kind": None}, condition=CONDITION))


def test_new_rows_are_like_the_rows(result):
    rows, n, i = mixed(), 2000, 7
    new = result.generate(condition=some(CONDITION, np.full(n, i)), key=5)
    assert jax.tree.structure(new) == jax.tree.structure(rows)
    for name, part in rows.items():
        assert new[name].shape == (n, *part.shape[1:])
        kind = "f" if name == "heights" else "i"
        assert new[name].dtype.kind == kind, name
    assert set(np.unique(new["classes"])) <= set(range(5))
    # Against the mean over the prior, by Gauss-Hermite nodes; 5 standard errors.
    z, weights = np.polynomial.hermite_e.hermegauss(60)
    weights, out = weights / weights.sum(), cut(decoded(result, z, i), sorted(rows))
    p = weights @ softmax(out["kind"], axis=1)
    share = np.bincount(new["kind"], minlength=3) / n
    assert np.all(abs(share - p) < 5 * np.sqrt(p * (1 - p) / n))
    p = np.tensordot(weights, 1 / (1 + np.exp(-out["bits"].reshape(60, 2, 3))), 1)
    assert np.all(abs(np.mean(new["bits"], axis=0) - p) < 5 * np.sqrt(p * (1 - p) / n))


def test_what_a_result_takes_and_gives(data, vae, result, tmp_path):
    rows = mixed()
    mask = data.layout.tree(data.layout.parts(np.asarray(data.rows.mask)))
    few = {"mask": some(mask, slice(3)), "condition": some(CONDITION, slice(3))}
    codes = result.encode(some(rows, slice(3)), **few)
    row = jax.tree.map(lambda part: part[2], data.rows)
    np.testing.assert_allclose(codes[2], result.model.posterior(row).mean, rtol=1e-5)
    middle = result.decode(codes, condition=few["condition"])
    assert jax.tree.map(jnp.shape, middle) == {k: (3, *v.shape[1:]) for k, v in rows.items()}
    again = result.reconstruct(some(rows, slice(3)), **few)
    jax.tree.map(np.testing.assert_array_equal, again, middle)
    given = result.given(
        some(rows, 2), mask=some(mask, 2), condition=some(CONDITION, 2), key=3, draws=60
    )
    assert given["z"].shape == (1, 60, 1)
    np.testing.assert_allclose(given.posterior.mean, codes[2], rtol=1e-5)
    with pytest.raises(ValueError, match="condition must have the parts dose, site, and lacks"):
        result.generate(condition={"dose": CONDITION["dose"]}, key=0)
    with pytest.raises(ValueError, match=r"plot.* parts bits, classes"):
        result.plot(key=0)
    path = tmp_path / "result"
    result.save(path)
    jax.tree.map(
        np.testing.assert_array_equal,
        infer.load(path, data, vae).reconstruct(),
        result.reconstruct(),
    )
    rows["other"], mask["other"] = rows.pop("bits"), mask.pop("bits")
    with pytest.raises(ValueError, match="another"):
        infer.load(path, infer.Data(rows, batch_size=16, mask=mask, condition=CONDITION))


class Encoder(eqx.Module):
    """W of one-hot classes and heights, once the tree is as it was given."""

    weight: jax.Array

    def __call__(self, x, mask, given):
        assert x["kind"].dtype.kind == "i" and mask["kind"].dtype == bool
        assert given["dose"].dtype == self.weight.dtype and given["site"].dtype.kind == "i"
        u = [jax.nn.one_hot(x["kind"], 3) * mask["kind"], x["heights"], given["dose"]]
        return self.weight @ jnp.concatenate([jnp.ravel(part) for part in u])


class Decoder(eqx.Module):
    """Outputs of the parts by name."""

    weight: jax.Array

    def __call__(self, z, given):
        u = self.weight @ jnp.concatenate([z, given["dose"]])
        return {"heights": u[:2], "kind": u[2:] + given["site"]}


def test_networks_of_ones_own_see_trees(x64, key):
    """The same affine maps of trees and, by MLP, of vectors: what comes out is by hand."""
    rows = {"kind": mixed()["kind"], "heights": mixed()["heights"] - 170}
    rng = np.random.default_rng(8)
    condition = CONDITION
    mask = {"kind": rng.random(40) < 0.7, "heights": None}
    data = infer.Data(rows, mask=mask, condition=condition)
    encoder, decoder = Encoder(rng.normal(size=(2, 6))), Decoder(rng.normal(size=(5, 2)))
    encoder, decoder = jax.tree.map(jnp.asarray, (encoder, decoder))
    settings = {"latent": 1, "posterior": infer.MeanField(1.0)}
    kinds = {"kind": Categorical(3), "heights": Gaussian(2.0)}
    model = infer.VAE(kinds, encoder=encoder, decoder=decoder, **settings).ready(data)
    model = model.build(key, data)
    row = data.rows.take(5)
    onehot = np.eye(3)[rows["kind"][5]] * mask["kind"][5]
    u = np.concatenate([onehot, rows["heights"][5], condition["dose"][5]])
    np.testing.assert_allclose(model.outputs(row), encoder.weight @ u, rtol=1e-12)
    z = np.array([0.3])
    out = decoder.weight @ np.concatenate([z, condition["dose"][5]])
    log_p = np.sum(stats.norm.logpdf(rows["heights"][5], out[:2], 2.0))
    if mask["kind"][5]:
        log_p += log_softmax(out[2:] + condition["site"][5])[rows["kind"][5]]
    np.testing.assert_allclose(model.log_likelihood(jnp.asarray(z), row), log_p, rtol=1e-12)

    # A network of two functions gets trees as well, and one of ours a vector.
    pair = infer.Functional(
        lambda key, x, mask, given: {"w": jax.random.normal(key, (2, x["heights"].shape[0]))},
        lambda params, x, mask, given: params["w"] @ x["heights"],
    )
    settings |= {"encoder": pair, "decoder": infer.MLP((3,))}
    model = infer.VAE(kinds, **settings).ready(data).build(key, data)
    found = model.outputs(row)
    np.testing.assert_allclose(found, model.encoder.network.params["w"] @ rows["heights"][5])
    assert model.decoder(jnp.zeros(1), row.condition).shape == (5,)

    def wrong(z, given):
        return {"heights": z, "kind": jnp.zeros(3)}

    with pytest.raises(ValueError, match=r"heights \(2,\), kind \(3,\), got heights \(1,\)") as e:
        infer.fit(data, infer.VAE(kinds, latent=1, decoder=wrong), steps=2, **QUIET)
    assert "decoder(array of shape (1,), {'dose'" in e.value.__notes__[-1]


def test_every_row_is_transformed_as_a_tree():
    rows = {"gray": np.full((6, 2), 0.5), "kind": np.arange(6)}

    def change(key, row):
        assert row["kind"].dtype.kind == "i" and row["gray"].shape == (2,)
        return row | {"gray": jax.random.bernoulli(key, row["gray"]).astype(float)}

    seen = infer.Data(rows, transform=change).seen(jax.random.key(1))
    np.testing.assert_array_equal(seen.x[:, 2], np.arange(6))
    assert set(np.unique(seen.x[:, :2])) == {0, 1}
    with pytest.raises(ValueError, match=r"transform gives must have parts of shapes gray \(2,\)"):
        infer.Data(rows, transform=lambda key, row: row | {"gray": row["gray"][0]})
    with pytest.raises(ValueError, match="transform gives must have the parts gray, kind, and la"):
        infer.Data(rows, transform=lambda key, row: {"gray": row["gray"]})


def test_a_likelihood_is_guessed_for_each_part():
    rows = counted() | {"counts": 50 * counted()["counts"]}
    guessed = infer.VAE.for_data(rows).likelihood
    kinds = dict(zip(guessed.names, map(type, guessed.parts), strict=True))
    assert kinds["bits"] is Bernoulli and kinds["counts"] is NegativeBinomial
    assert kinds["heights"] is Gaussian
    assert likelihood_for(rows).structure == guessed.structure
    holes = rows | {"heights": np.where(np.arange(40)[:, None] > 3, rows["heights"], np.nan)}
    mask = jax.tree.map(lambda part: ~np.isnan(part), holes)
    data = infer.Data(holes, mask=mask)
    ready = infer.VAE.for_data(data).ready(data)
    assert ready.likelihood.names == guessed.names and np.all(np.isfinite(ready.start))


def test_a_list_is_one_array():
    """As in NumPy; so is a tuple of numbers."""
    x = np.arange(6.0).reshape(2, 3)
    for given in (list(x), x.tolist(), ((0.0, 1, 2), (3, 4, 5))):
        data = infer.Data(given)
        assert data.layout is None
        np.testing.assert_array_equal(data.rows.x, x)
    table = infer.Data({"age": [30, 40], "height": [1.6, 1.7]})
    assert table.layout.names == ("age", "height") and table.rows.x.shape == (2, 2)


ROWS = {"pixels": np.ones((4, 2)), "digit": np.arange(4)}
PAIR = {"pixels": Gaussian(1.0), "digit": Categorical(4)}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: infer.Data(ROWS | {"digit": np.arange(5)}), r"'digit': \(5,\)"),
        (lambda: infer.Data(ROWS | {"digit": 3}), "as many rows in every part"),
        (lambda: infer.Data(ROWS | {"digit": None}), "x of digit as an array of numbers"),
        (lambda: infer.Data(ROWS | {"digit": np.array(list("abcd"))}), "x of digit as an array"),
        (
            lambda: infer.Data(ROWS | {"pixels": np.full((4, 2), np.nan)}),
            r"8 values of x of pixels that are not finite, the first at \(0, 0\).*tree.map",
        ),
        (lambda: infer.Data(ROWS | {"digit": np.arange(4) + 2**24}), "whole numbers in digit"),
        (lambda: infer.Data(ROWS, mask={"pixels": None}), "mask must have the parts .* lacks dig"),
        (
            lambda: infer.Data(ROWS, mask={"pixels": None, "digit": np.ones(4)}),
            "mask as booleans of the shape of x of digit",
        ),
        (lambda: infer.Data(ROWS, mask=np.ones((4, 3), bool)), "mask must .* is one array"),
        (
            lambda: infer.Data(ROWS, held_out=infer.Data({"pixels": np.ones((4, 2))})),
            "x of the held-out rows must have the parts digit, pixels, and lacks digit",
        ),
        (
            lambda: infer.Data(ROWS, held_out=infer.Data(ROWS | {"pixels": np.ones((4, 3))})),
            r"pixels \(2,\), got digit \(\), pixels \(3,\)",
        ),
        (lambda: infer.Data(np.ones((4, 3)), held_out=infer.Data(ROWS)), "must be one array"),
        (lambda: infer.VAE({"pixels": Gaussian(), "digit": 3}), "digit needs a likelihood, got 3"),
        (lambda: infer.VAE((Gaussian(), None)), "1 needs a likelihood, got None"),
        (lambda: infer.VAE([Gaussian()]), "Parts needs .* made of dicts and tuples"),
        (lambda: infer.VAE({}), "Parts needs likelihoods, got {}"),
    ],
)
def test_wrong_rows(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


@pytest.mark.parametrize(
    ("likelihood", "words"),
    [
        (Gaussian(), r"parts digit, pixels, and Gaussian is for one; write likelihood=\{'digit'"),
        (PAIR | {"age": Gaussian()}, "likelihood must have the parts digit, pixels, and has age"),
        ({"pixels": Gaussian()}, "and lacks digit"),
        ((Categorical(4), Gaussian()), "lacks digit, pixels and has 0, 1 too much"),
        (PAIR | {"digit": Categorical(3)}, r"^digit: Categorical\(3\) needs .*Categorical\(4\)"),
        (PAIR | {"pixels": Gaussian()}, "^pixels: A scale cannot be learned"),
    ],
)
def test_wrong_likelihoods(likelihood, words):
    with pytest.raises(ValueError, match=words):
        infer.fit(infer.Data(ROWS), infer.VAE(likelihood, latent=1), **QUIET)


def test_what_is_for_one_array_refuses_parts(result):
    with pytest.raises(ValueError, match="the rows are one array"):
        infer.fit(infer.Data(np.ones((4, 3))), infer.VAE(PAIR, latent=1), **QUIET)
    with pytest.raises(ValueError, match="VampPrior trains rows within one range"):
        infer.fit(infer.Data(ROWS), infer.VAE(PAIR, latent=1, prior=infer.VampPrior(2)), **QUIET)
    with pytest.raises(ValueError, match="ConvEncoder needs images"):
        infer.fit(infer.Data(ROWS), infer.VAE(PAIR, latent=1, encoder=infer.ConvEncoder()), **QUIET)
    given = {"condition": some(CONDITION, slice(2))}
    rows = some(mixed(), slice(2))
    del rows["kind"]
    mask = jax.tree.map(lambda part: np.ones(part.shape, bool), rows)
    with pytest.raises(ValueError, match="x must have the parts .* and lacks kind"):
        result.encode(rows, mask=mask, **given)
    with pytest.raises(ValueError, match="x must have .* is one array"):
        result.encode(np.ones((2, 3)), mask=np.ones((2, 3), bool), **given)
    with pytest.raises(ValueError, match="condition must have .* is one array"):
        result.encode(
            some(mixed(), slice(2)), mask=mask | {"kind": None}, condition=np.ones((2, 2))
        )
