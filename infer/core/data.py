"""Rows of data, for models that are fitted to all of them and asked about one."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.core.checks import check_count
from infer.core.layout import Layout, check_layout, table
from infer.core.problem import AbstractProblem
from infer.core.types import PRNGKey


class Rows(eqx.Module):
    """Rows, or one of them. Of rows of several parts each is one vector, see `Layout`.

    Attributes:
        x: what is modelled, (N, ...).
        mask: True where x was observed, of the shape of x; None where all of it was. What was not
            observed is 0 in x.
        condition: what is given and not modelled, (N, ...), or None.
    """

    x: Array
    mask: Array | None = None
    condition: Array | None = None

    def inputs(self) -> tuple[Array, ...]:
        """What an encoder is called with: x, then mask and condition where there are any."""
        return tuple(part for part in (self.x, self.mask, self.condition) if part is not None)

    def take(self, indices: Any) -> "Rows":
        """Some of the rows, or one of them."""
        return jax.tree.map(lambda leaf: leaf[indices], self)


class Data(AbstractProblem):
    """Rows to fit a `VAE` to.

        infer.Data(x, batch_size=64, held_out=infer.Data(x_test))

    Every step takes `batch_size` rows drawn with replacement, addressed by the key of the step.

    Rows of several kinds are a dict or a tuple of arrays, or a tree of them, each with a row per
    datum and a likelihood of its own. What is asked of the fit takes and gives such trees.

        rows = {"pixels": images, "digit": labels}  # (N, 8, 8) and (N,)
        vae = infer.VAE({"pixels": Bernoulli(), "digit": Categorical(10)})
        infer.fit(infer.Data(rows), vae, key=0)

    A list is one array, as in NumPy. Inside, a row of parts is one vector of floats.

    Args:
        x: what is modelled, (N, ...): one array of numbers with a row per datum, or a tree of them.
        batch_size: rows per step, >= 1; None takes all of them at every step.
        condition: what is given and not modelled, (N, ...), an array or a tree of them: encoder
            and decoder see it.
        mask: True where x was observed, of the shape of x; of several parts a tree like x, in which
            None stands for a part that was observed. What was not observed may be NaN; it counts
            in no likelihood.
        transform: a function of a key and one row x that returns a row of the same shape, applied
            anew to every row of every step: binarization of gray values, augmentation.
        held_out: other rows as a `Data` of their own, on which the verdict is passed. Without them
            it is passed on the rows of the fit, and says so.

    Raises:
        ValueError: for NaN that no mask covers, for shapes that do not agree, and for whole numbers
            in a part that the default float type does not hold.
    """

    rows: Rows
    layout: Layout | None = eqx.field(static=True)
    condition_layout: Layout | None = eqx.field(static=True)
    batch_size: int | None = eqx.field(static=True)
    transform: Callable[[PRNGKey, Any], Any] | None = eqx.field(static=True)
    held_out: "Data | None"
    total: int = eqx.field(static=True)
    size: int | None = eqx.field(static=True)

    def __init__(
        self,
        x: Any,
        *,
        batch_size: int | None = None,
        condition: Any = None,
        mask: Any = None,
        transform: Callable[[PRNGKey, Any], Any] | None = None,
        held_out: "Data | None" = None,
    ) -> None:
        values, layout = table("x", x)
        if values.ndim == 0 or not values.shape[0]:
            raise ValueError(
                f"Data needs rows, x of shape (N, ...) with N >= 1, got shape {values.shape}."
            )
        n, condition_layout = values.shape[0], None
        if mask is not None:
            mask = _mask(mask, values.shape, layout)
            values = np.where(mask, values, np.zeros((), values.dtype))
        _check_finite(values, layout)
        if condition is not None:
            condition, condition_layout = table("condition", condition)
            if condition.ndim == 0 or condition.shape[0] != n or not np.isfinite(condition).all():
                raise ValueError(
                    f"Data needs a finite condition per row of x, ({n}, ...), got shape "
                    f"{condition.shape}."
                )
        if batch_size is not None:
            check_count("Data", "batch_size", batch_size, 64)
        if transform is not None and not callable(transform):
            raise TypeError(
                f"Data needs transform as a function of a key and a row, got {transform!r}; write "
                "transform=lambda key, x: jax.random.bernoulli(key, x).astype(x.dtype)."
            )
        self.rows = Rows(
            jnp.asarray(values),
            None if mask is None else jnp.asarray(mask),
            None if condition is None else jnp.asarray(condition),
        )
        self.layout, self.condition_layout = layout, condition_layout
        self.batch_size, self.transform, self.held_out = batch_size, transform, held_out
        self.total = self.size = n
        if transform is not None:
            changed = functools.partial(_changed, transform, layout)
            one = jax.eval_shape(changed, jax.random.key(0), self.rows.x[0])
            if one.shape != self.rows.x.shape[1:]:
                raise ValueError(
                    f"transform must keep the shape of a row, {self.rows.x.shape[1:]}, and gave "
                    f"{one.shape}."
                )
        if held_out is not None:
            _check_alike(self, held_out)

    @property
    def exact(self) -> bool:
        """Does every step use all rows as they are?"""
        return self.batch_size is None and self.transform is None

    def subsample(self, key: PRNGKey) -> "Data":
        """The rows of one step, drawn and transformed."""
        key_rows, key_transform = jax.random.split(key)
        rows = self.rows
        if self.batch_size is not None:
            rows = rows.take(jax.random.randint(key_rows, (self.batch_size,), 0, self.total))
        return self._of(self._transformed(key_transform, rows))

    def seen(self, key: PRNGKey) -> Rows:
        """All rows as a step would see them: transformed once."""
        return self._transformed(key, self.rows)

    def at(self, start: Any) -> "Data":
        """Itself: a model of rows starts at no point."""
        return self

    def _transformed(self, key: PRNGKey, rows: Rows) -> Rows:
        if self.transform is None:
            return rows
        keys = jax.random.split(key, rows.x.shape[0])
        change = functools.partial(_changed, self.transform, self.layout)
        x = jax.vmap(change)(keys, rows.x)
        if rows.mask is not None:
            x = jnp.where(rows.mask, x, 0)
        return eqx.tree_at(lambda r: r.x, rows, x)

    def _of(self, rows: Rows) -> "Data":
        """The problem on some rows, as they are."""
        new = object.__new__(Data)
        fields = {
            "rows": rows,
            "layout": self.layout,
            "condition_layout": self.condition_layout,
            "batch_size": None,
            "transform": None,
            "held_out": None,
            "total": self.total,
            "size": rows.x.shape[0],
        }
        for name, value in fields.items():
            object.__setattr__(new, name, value)
        return new


def _changed(
    transform: Callable[[PRNGKey, Any], Any], layout: Layout | None, key: PRNGKey, x: Array
) -> Array:
    """A row transformed, as the user has it."""
    if layout is None:
        return transform(key, x)
    return layout.ravel("what transform gives", transform(key, layout.unravel(x)))


def _mask(mask: Any, shape: tuple[int, ...], layout: Layout | None) -> np.ndarray:
    """A mask of the shape of the rows; None in it is a part that was observed."""
    if layout is None:
        return _checked_mask("x", mask, shape, "~np.isnan(x)")
    leaves = layout.leaves("mask", mask)
    line = "jax.tree.map(lambda part: ~np.isnan(part), x)"
    parts = [
        np.ones((shape[0], *event), bool)
        if leaf is None
        else _checked_mask(f"x of {name}", leaf, (shape[0], *event), line)
        for name, leaf, event in zip(layout.names, leaves, layout.shapes, strict=True)
    ]
    return np.concatenate([part.reshape(shape[0], -1) for part in parts], axis=1)


def _checked_mask(name: str, mask: Any, shape: tuple[int, ...], line: str) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != shape:
        raise ValueError(
            f"Data needs mask as booleans of the shape of {name}, {shape}, got {mask.dtype} of "
            f"shape {mask.shape}; write mask={line}."
        )
    return mask


def _check_finite(values: np.ndarray, layout: Layout | None) -> None:
    """Refuse values that are not finite, with their place."""
    parts = {"x": values}
    line = "infer.Data(x, mask=np.isfinite(x))"
    if layout is not None:
        named = zip(layout.names, layout.parts(values), strict=True)
        parts = {f"x of {name}": part for name, part in named}
        line = "infer.Data(x, mask=jax.tree.map(np.isfinite, x))"
    for name, part in parts.items():
        bad = np.argwhere(~np.isfinite(part))
        if len(bad):
            where = tuple(int(i) for i in bad[0])
            raise ValueError(
                f"Data got {len(bad)} values of {name} that are not finite, the first at {where}; "
                f"leave those rows out, or write {line} to treat them as not observed."
            )


def _check_alike(data: Data, held_out: Any) -> None:
    """Refuse held-out rows of another kind."""
    if not isinstance(held_out, Data):
        raise TypeError(
            f"Data needs held_out as rows of their own, got {type(held_out).__name__}; write "
            "held_out=infer.Data(x_test)."
        )
    pairs = (data.layout, held_out.layout), (data.condition_layout, held_out.condition_layout)
    for name, (mine, theirs) in zip(("x", "condition"), pairs, strict=True):
        check_layout(f"{name} of the held-out rows", mine, theirs)
    mine, theirs = (
        {name: None if part is None else part.shape[1:] for name, part in vars(d.rows).items()}
        for d in (data, held_out)
    )
    if mine != theirs:
        raise ValueError(f"the held-out rows have shapes {theirs}, those of the fit {mine}.")
