"""Rows of several parts: terms by hand, the same model as one array, closed forms and quadrature.

Parts have shapes that no other can stand for: (2, 3), (4,), (), with 3, 5 and 2 outputs per entry.
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
from infer.amortized.parts import join, split
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
    "counts": NegativeBinomial(),
    "heights": Gaussian(DecodedScale()),
    "kind": Categorical(3),
}


def mixed(n=40, seed=0):
    """Rows of five parts that share one latent number."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    return {
        "bits": (rng.random((n, 2, 3)) < 1 / (1 + np.exp(-2 * z[:, None, None]))).astype(np.uint8),
        "classes": np.clip(np.round(2 + z[:, None] + rng.normal(size=(n, 4))), 0, 4).astype(int),
        "counts": rng.poisson(np.exp(1 + 0.5 * z)),
        "heights": 170 + 8 * z[:, None] + rng.normal(size=(n, 2)),
        "kind": (z > 0).astype(int) + (z > 1),
    }


def some(rows, index):
    return jax.tree.map(lambda part: part[index], rows)


SMALL = {"latent": 1, "encoder": infer.MLP((5,)), "decoder": infer.MLP((4,))}


@pytest.fixture(scope="module")
def data():
    rows = mixed()
    mask = {name: None for name in rows} | {
        "classes": np.random.default_rng(3).random((40, 4)) < 0.7,
        "kind": np.arange(40) % 3 > 0,
    }
    return infer.Data(rows, batch_size=16, mask=mask)


@pytest.fixture(scope="module")
def vae():
    return infer.VAE(KINDS, **SMALL)


@pytest.fixture(scope="module")
def result(data, vae):
    return infer.fit(data, vae, steps=150, **QUIET)


def by_hand(likelihood, outputs, row):
    """Terms of one row by SciPy, by name; `outputs` is the vector of a decoder."""
    cuts = np.cumsum([6, 20, 1, 4, 3])
    bits, classes, counts, heights, kind = np.split(np.asarray(outputs, float), cuts[:-1])
    assert len(outputs) == cuts[-1]
    total = np.exp(float(likelihood.parts[2].log_total))
    mean, raw = heights.reshape(2, 2)
    scale = likelihood.parts[3].scale.unit * (1e-3 + np.exp(raw))
    classes = log_softmax(classes.reshape(5, 4), axis=0)
    return {
        "bits": stats.bernoulli.logpmf(row["bits"], 1 / (1 + np.exp(-bits.reshape(2, 3)))),
        "classes": classes[row["classes"], np.arange(4)],
        "counts": stats.nbinom.logpmf(row["counts"], total, 1 / (1 + np.exp(counts[0]))),
        "heights": stats.norm.logpdf(row["heights"], mean, scale),
        "kind": log_softmax(kind)[row["kind"]],
    }


def joined(tree):
    return np.concatenate([np.ravel(tree[name]) for name in sorted(tree)])


def test_terms_means_and_averages_by_hand(x64):
    rows = mixed()
    data = infer.Data(rows)
    likelihood = Parts(KINDS).on(data.layout).init(np.asarray(data.rows.x))
    outputs = np.random.default_rng(1).normal(size=(7, likelihood.n_outputs))
    row = some(rows, 11)
    found = jax.jit(jax.vmap(likelihood.log_prob, (0, None)))(outputs, data.rows.x[11])
    wanted = [joined(by_hand(likelihood, one, row)) for one in outputs]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    # The average over draws: of classes the most probable one of the mixture.
    weights = np.random.default_rng(2).dirichlet(np.ones(7))
    average = data.layout.typed().unravel(jax.jit(likelihood.average)(weights, outputs))
    p = np.tensordot(weights, softmax(outputs[:, 6:26].reshape(7, 5, 4), axis=1), 1)
    np.testing.assert_array_equal(average["classes"], np.argmax(p, axis=0))
    np.testing.assert_allclose(average["heights"], weights @ outputs[:, 27:29], rtol=1e-12)
    rates = np.exp(float(likelihood.parts[2].log_total) + outputs[:, 26])
    np.testing.assert_allclose(average["counts"], weights @ rates, rtol=1e-12)
    mean = data.layout.typed().unravel(likelihood.mean(outputs[0]))
    np.testing.assert_allclose(mean["bits"], 1 / (1 + np.exp(-outputs[0, :6].reshape(2, 3))))
    np.testing.assert_array_equal(mean["kind"], np.argmax(outputs[0, 31:]))


def test_first_outputs_are_those_of_the_parts(x64):
    """Also where entries are missing; the order is that of the names."""
    rows = mixed()
    holes = np.random.default_rng(5).random((40, 4)) < 0.6
    data = infer.Data(rows, mask={name: None for name in rows} | {"classes": holes})
    ready = infer.VAE(KINDS, **SMALL).ready(data)
    nan = rows | {"classes": np.where(holes, rows["classes"], np.nan)}
    alone = {name: KINDS[name].init(nan[name]) for name in KINDS}
    wanted = joined({name: alone[name].start(nan[name]) for name in KINDS})
    np.testing.assert_allclose(ready.start, wanted, rtol=1e-12)
    assert ready.likelihood.parts[2].log_total == alone["counts"].log_total


def bound(vae, data, key):
    """The bound of every row and its gradient, as a step of the optimizer gets them."""
    vae = vae.ready(data)
    trained, rest = split(vae.init(jax.random.key(3), data).model)

    def loss(trained):
        return vae._loss(key, data, trained, rest, jnp.zeros((), int))

    descent, (bounds, *_) = jax.jit(jax.grad(loss, has_aux=True))(trained)
    return bounds.values, join(descent, rest)


@pytest.mark.parametrize("masked", [False, True])
def test_one_array_in_parts_is_the_same_model(x64, key, masked):
    x = np.random.default_rng(0).normal(size=(8, 7)) * np.arange(1, 8)
    seen = np.random.default_rng(1).random((8, 7)) < 0.8

    def cut(values):
        return {"b": values[:, 6], "a": (values[:, :2], values[:, 2:6].reshape(8, 2, 2))}

    settings = SMALL | {"latent": 2, "n_samples": 3, "objective": infer.IWAE()}
    one = infer.VAE(Gaussian(0.7), **settings)
    parts = infer.VAE({"a": (Gaussian(0.7), Gaussian(0.7)), "b": Gaussian(0.7)}, **settings)
    whole = infer.Data(x, mask=seen if masked else None)
    halves = infer.Data(cut(x), mask=cut(seen) if masked else None)
    wanted, slope = bound(one, whole, key)
    found, same = bound(parts, halves, key)
    np.testing.assert_allclose(found, wanted, rtol=1e-13)
    for a, b in zip(jax.tree.leaves(slope.decoder), jax.tree.leaves(same.decoder), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12)
    first = infer.fit(whole, one, steps=3, **QUIET)
    second = infer.fit(halves, parts, steps=3, **QUIET)
    given = {"mask": seen} if masked else {}
    halved = {"mask": cut(seen)} if masked else {}
    looked = second.evidence(cut(x), key=1, n_samples=50, **halved).log_evidence
    np.testing.assert_allclose(
        looked, first.evidence(x, key=1, n_samples=50, **given).log_evidence, rtol=1e-12
    )
    for part, alike in zip(
        jax.tree.leaves(second.reconstruct(cut(x), **halved)),
        jax.tree.leaves(cut(np.asarray(first.reconstruct(x, **given)))),
        strict=True,
    ):
        np.testing.assert_allclose(part, alike, rtol=1e-12)


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
    steps = 4000
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


LINE = np.linspace(-9, 9, 1201)


@pytest.fixture(scope="module")
def nodes(result):
    """Outputs of the decoder on a grid of the one latent variable."""
    return np.asarray(jax.jit(jax.vmap(result.model.decoder))(jnp.asarray(LINE[:, None])))


def log_joint(result, nodes, row, mask):
    """log p(x, z) on the grid, by SciPy."""
    terms = [by_hand(result.model.likelihood, out, row) for out in nodes]
    kept = [sum(np.sum(np.where(mask[name], t[name], 0)) for name in t) for t in terms]
    return np.array(kept) + stats.norm.logpdf(LINE)


def test_evidence_and_imputation_by_quadrature(data, result, nodes):
    """One latent variable: log p(observed) and E(missing | observed) on a grid."""
    rows, n = some(mixed(), slice(4)), 4000
    mask = jax.tree.map(lambda part: np.ones(part.shape, bool), rows)
    mask["kind"][:], mask["heights"][1:, 0], mask["classes"][2] = False, False, False
    found = result.evidence(rows, mask=mask, key=1, n_samples=n)
    filled = result.impute(rows, mask, key=2, n_samples=n)
    for i in range(4):
        logs = log_joint(result, nodes, some(rows, i), some(mask, i))
        top = np.logaddexp.reduce(logs)
        wanted = top + np.log(LINE[1] - LINE[0])
        assert abs(found.log_evidence[i] - wanted) < 5 * max(found.error[i], 2e-5)
        weights = np.exp(logs - top)
        p = weights @ softmax(nodes[:, -3:], axis=1)
        assert np.sort(p)[-1] - np.sort(p)[-2] > 0.05  # or the draws could not tell
        assert filled["kind"][i] == np.argmax(p)
        if i:
            mean = weights @ nodes[:, 27]
            error = np.sqrt(weights @ (nodes[:, 27] - mean) ** 2 / n)
            assert abs(filled["heights"][i, 0] - mean) < 6 * error + 1e-3
            np.testing.assert_array_equal(
                filled["heights"][i, 1], np.float32(rows["heights"][i, 1])
            )
    assert set(filled) == set(rows)
    np.testing.assert_array_equal(filled["bits"], rows["bits"])


def test_what_is_missing_counts_for_nothing(data, vae, result):
    """Neither NaN nor any class in its place."""
    other = mixed()
    mask = data.layout.tree(data.layout.parts(np.asarray(data.rows.mask)))
    other["classes"] = np.where(mask["classes"], other["classes"], np.nan)
    other["kind"] = np.where(mask["kind"], other["kind"], 17)
    again = infer.fit(infer.Data(other, batch_size=16, mask=mask), vae, steps=150, **QUIET)
    np.testing.assert_array_equal(again.history["loss"], result.history["loss"])


def test_new_rows_are_like_the_rows(data, result):
    rows = mixed()
    new = result.generate(2000, key=5)
    assert jax.tree.structure(new) == jax.tree.structure(rows)
    for name, part in rows.items():
        assert new[name].shape == (2000, *part.shape[1:])
        kind = "f" if name == "heights" else "i"
        assert new[name].dtype.kind == kind, name
    assert set(np.unique(new["classes"])) <= set(range(5))
    # Against the mean over the prior, by Gauss-Hermite nodes; 2000 rows, 5 standard errors.
    z, weights = np.polynomial.hermite_e.hermegauss(60)
    outputs = jax.vmap(result.model.decoder)(jnp.asarray(z[:, None], jnp.float32))
    weights = weights / weights.sum()
    p = weights @ softmax(np.asarray(outputs, float)[:, -3:], axis=1)
    share = np.bincount(new["kind"], minlength=3) / 2000
    assert np.all(abs(share - p) < 5 * np.sqrt(p * (1 - p) / 2000))
    bits = np.asarray(outputs, float)[:, :6].reshape(60, 2, 3)
    p = np.tensordot(weights, 1 / (1 + np.exp(-bits)), 1)
    assert np.all(abs(np.mean(new["bits"], axis=0) - p) < 5 * np.sqrt(p * (1 - p) / 2000))


def test_what_a_result_takes_and_gives(data, vae, result, tmp_path):
    rows = mixed()
    mask = data.layout.tree(data.layout.parts(np.asarray(data.rows.mask)))
    assert result.encode(some(rows, slice(3)), mask=some(mask, slice(3))).shape == (3, 1)
    middle = result.decode(np.zeros((2, 1), np.float32))
    assert jax.tree.map(jnp.shape, middle) == {k: (2, *v.shape[1:]) for k, v in rows.items()}
    given = result.given(some(rows, 6), mask=some(mask, 6), key=3, draws=60)
    assert given["z"].shape == (1, 60, 1)
    row = data.rows.take(6)
    q = result.model.posterior(row)
    np.testing.assert_allclose(given.posterior.mean, q.mean, rtol=1e-5)
    with pytest.raises(ValueError, match=r"plot.* parts bits, classes"):
        result.plot(key=0)
    path = tmp_path / "result"
    result.save(path)
    again = infer.load(path, data, vae)
    np.testing.assert_array_equal(
        again.generate(3, key=1)["heights"], result.generate(3, key=1)["heights"]
    )
    renamed = {"other": rows["bits"]} | {k: v for k, v in rows.items() if k != "bits"}
    with pytest.raises(ValueError, match="another"):
        masks = {"other": None} | {k: v for k, v in mask.items() if k != "bits"}
        kinds = {"other": KINDS["bits"]} | {k: v for k, v in KINDS.items() if k != "bits"}
        infer.load(path, infer.Data(renamed, batch_size=16, mask=masks), infer.VAE(kinds, **SMALL))


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
    condition = {"dose": rng.normal(size=(40, 1)), "site": rng.integers(0, 4, 40)}
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
    result = infer.fit(data, infer.VAE(kinds, **settings), steps=2, **QUIET)
    new = result.generate(condition=condition, key=0)
    assert new["heights"].shape == (40, 2) and new["kind"].shape == (40,)
    with pytest.raises(ValueError, match="condition must have the parts dose, site, and lacks"):
        result.generate(condition={"dose": condition["dose"]}, key=0)

    def wrong(z, given):
        return {"heights": z, "kind": jnp.zeros(3)}

    with pytest.raises(ValueError, match=r"heights \(2,\), kind \(3,\), got heights \(1,\)") as e:
        infer.fit(data, infer.VAE(kinds, latent=1, decoder=wrong), steps=2, **QUIET)
    assert "decoder(array of shape (1,), {'dose'" in e.value.__notes__[0]


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
    rows = mixed()
    guessed = infer.VAE.for_data(rows).likelihood
    kinds = dict(zip(guessed.names, map(type, guessed.parts), strict=True))
    assert kinds["bits"] is Bernoulli and kinds["counts"] is NegativeBinomial
    assert kinds["heights"] is Gaussian
    assert likelihood_for(rows).structure == guessed.structure
    holes = rows | {"heights": np.where(np.arange(40)[:, None] > 3, rows["heights"], np.nan)}
    mask = jax.tree.map(lambda part: ~np.isnan(part), holes)
    result = infer.fit(
        infer.Data(holes, mask=mask),
        infer.VAE.for_data(infer.Data(holes, mask=mask)),
        steps=2,
        **QUIET,
    )
    assert result.model.likelihood.names == guessed.names


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
    rows = some(mixed(), slice(2))
    mask = jax.tree.map(lambda part: np.ones(part.shape, bool), rows)
    short = {name: part for name, part in rows.items() if name != "kind"}
    with pytest.raises(ValueError, match="x must have the parts .* and lacks kind"):
        del mask["kind"]
        result.encode(short, mask=mask)
    with pytest.raises(ValueError, match="x must have .* is one array"):
        result.encode(np.ones((2, 3)), mask=np.ones((2, 3), bool))
