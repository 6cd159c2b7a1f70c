"""`GramPCA`: PCA for few rows (n) with very many columns (p >> n), as scikit-learn does it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self

import dask.array as da
import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from lorastyle.embedding.blas import one_blas_thread
from lorastyle.embedding.products import (
    BLOCK_COLUMNS,
    MAX_WORKERS,
    as_dask,
    column_blocks,
    combine_block,
    n_workers,
    products,
)
from lorastyle.embedding.spectrum import Matrix, Spectrum
from lorastyle.store.vectors import AdapterVectors

DTYPES = [np.float64, np.float32]


class GramPCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Exact PCA from the n x n inner products of the rows; the p x p covariance is never built.

    X (n, p) is NumPy, Dask in any chunks, or AdapterVectors, which stay on disk. Fitting is
    one pass over its columns. Unseen rows are projected by their products with the fit rows,
    which are therefore kept, by reference: do not write to them. Float32 is multiplied
    about the column mean and added up in float64.

    Products are squares: an eigenvalue is exact to float64's rounding of the largest one
    (float32: of the spread). Those below n * 2.2e-16 of it are lost, and their components
    are not kept, so that there may be fewer than `n_components`.

    Parameters: `n_components`, None for all; `centre=False` analyses rows about zero, not
    about their mean; `memory_gib` is working memory for column blocks, on top of which come
    a few n x n matrices; `scheduler` is what `dask.compute` takes, None for the one that is
    set or a few threads.

    Fitted attributes, with k components: `explained_variance_` (the mean square about zero
    where uncentred), `explained_variance_ratio_` and `singular_values_`, all (k,) float64;
    `n_components_`, `n_samples_`, `n_features_in_`; `spectrum_`, all that is known without X.
    `components_` (k, p) and `mean_` (p,) are made when asked for, each time, with a
    pass over X: lazy Dask arrays unless X is NumPy. `write_components` keeps them on disk.
    Each component's largest score on the fit rows by magnitude is positive (of equals,
    the first row's), whatever the chunks. On one processor scores and components are the
    same bits for NumPy and for Dask in any chunks, with any number of threads; on another
    processor the last bits may differ.

    >>> GramPCA(1).fit_transform(np.array([[0.0, 0.0], [3.0, 4.0]]))
    array([[ 2.5],
           [-2.5]])
    """

    explained_variance_: Matrix
    explained_variance_ratio_: Matrix
    singular_values_: Matrix
    spectrum_: Spectrum
    n_components_: int
    n_samples_: int
    n_features_in_: int

    def __init__(
        self,
        n_components: int | None = None,
        *,
        centre: bool = True,
        solver: Literal["exact", "krylov"] = "exact",
        random_state: int = 0,
        memory_gib: float = 1.0,
        scheduler: Callable[..., Any] | None = None,
    ) -> None:
        self.n_components = n_components
        self.centre = centre
        self.solver = solver
        self.random_state = random_state
        self.memory_gib = memory_gib
        self.scheduler = scheduler

    def fit(self, X: Any, y: None = None) -> Self:
        """Fit on X (n, p). ValueError for what cannot be fitted on, naming it.

        TooFewAdaptersError, a ValueError, where all rows are the same, or one is too few.
        """
        self._check_parameters()
        self._fit_rows = self._checked(X, reset=True)
        self.spectrum_ = self._solve(self._fit_rows)
        self.explained_variance_ = self.spectrum_.explained_variance_
        self.explained_variance_ratio_ = self.spectrum_.explained_variance_ratio_
        self.singular_values_ = self.spectrum_.singular_values_
        self.n_components_ = self.spectrum_.n_components_
        self.n_samples_ = len(self._fit_rows)
        return self

    def fit_transform(self, X: Any, y: None = None) -> npt.NDArray[np.floating[Any]]:
        """Fit, and return the fit rows' own scores (n, k), in the precision of X."""
        self.fit(X)
        return self.spectrum_.scores_.astype(self._fit_rows.dtype)

    def transform(self, X: Any) -> npt.NDArray[np.floating[Any]]:
        """Scores (m, k) of unseen rows X (m, p), in their precision."""
        check_is_fitted(self, "spectrum_")
        others = self._checked(X, reset=False)
        if self.solver == "krylov":
            scores = self._krylov.transform(
                others, memory_gib=self.memory_gib, scheduler=self.scheduler
            )
            return scores.astype(others.dtype)
        cross = _finite(self._products(self._fit_rows, others))
        # The store's pass has an origin of its own; products() take theirs about the fit mean.
        moved = self._by_pass(self._fit_rows) and not self._by_pass(self._fit_rows, others)
        means = np.zeros(self.n_samples_) if moved else None
        return self.spectrum_.transform(cross, means).astype(others.dtype)

    def inverse_transform(self, X: Any) -> Any:
        """The rows (m, p) that have these scores (m, k), as close as components come.

        Lazy unless the fit rows are NumPy, and without forming the components.
        """
        check_is_fitted(self, "spectrum_")
        scores = np.asarray(X, np.float64)
        if scores.ndim != 2 or scores.shape[1] != self.n_components_:
            raise ValueError(
                f"scores have shape {scores.shape}, expected (m, {self.n_components_}): "
                "a column for each component"
            )
        return self._combine(scores @ self.spectrum_.weights_.T, restore=self.centre)

    @property
    def components_(self) -> Any:
        """The components (k, p), of unit length: lazy unless the fit rows are NumPy."""
        check_is_fitted(self, "spectrum_")
        return self._combine(self.spectrum_.weights_.T, restore=False)

    @property
    def mean_(self) -> Any:
        """The origin (p,) float64: the mean of the fit rows, zeros where uncentred."""
        check_is_fitted(self, "spectrum_")
        if not self.centre:
            return np.zeros(self.n_features_in_)
        rows = self._fit_rows
        rows = rows if isinstance(rows, np.ndarray) else as_dask(rows, self._block_columns(rows))
        return rows.mean(axis=0, dtype=np.float64)

    def _solve(self, rows: Any) -> Spectrum:
        """Exact, from the whole Gram matrix, which memory must hold; or by block Krylov."""
        if self.solver == "krylov":
            return self._solve_without_gram(rows)
        spectrum = Spectrum(self.n_components, centre=self.centre)
        return spectrum.fit(_finite(self._products(rows)))

    def _solve_without_gram(self, rows: Any) -> Spectrum:
        if isinstance(rows, da.Array):
            raise ValueError("solver='krylov' takes an array or AdapterVectors, not a Dask array")
        from lorastyle.embedding.krylov import krylov_spectrum

        self._krylov = krylov_spectrum(
            rows,
            self.n_components or 0,
            seed=self.random_state,
            memory_gib=self.memory_gib,
            scheduler=self.scheduler,
        )
        self.error_bounds_ = self._krylov.error_bounds_
        return self._krylov.spectrum

    def _products(self, rows: Any, others: Any = None) -> Matrix:
        """Products (n, n), or (m, n) with others."""
        options: dict[str, Any] = {"scheduler": self.scheduler}
        if self._by_pass(rows, others):
            # Here, so that arrays in memory do without the machinery of the store's pass.
            from lorastyle.embedding.gram_pass import cross_of, gram_of

            options["memory_gib"] = self.memory_gib
            return gram_of(rows, **options) if others is None else cross_of(rows, others, **options)
        width = self._block_columns(rows, 0 if others is None else len(others))
        return products(rows, others, width, centre=self.centre, **options)

    def _by_pass(self, rows: Any, others: Any = None) -> bool:
        """Whether the pass over the store makes these products, or products() do."""
        return isinstance(rows, AdapterVectors) and self.centre and not isinstance(others, da.Array)

    def _combine(self, weights: Matrix, restore: bool) -> Any:
        """Weighted sums (q, p) of the fit rows, with weights (q, n)."""
        rows, centre = self._fit_rows, self.centre
        width = self._block_columns(rows, len(weights))
        if isinstance(rows, np.ndarray):
            return _combine_here(rows, weights, width, centre, restore)
        lazy = as_dask(rows, width).rechunk((-1, width))
        return lazy.map_blocks(
            combine_block,
            weights=weights,
            centre=centre,
            restore=restore,
            chunks=((len(weights),), lazy.chunks[1]),
            dtype=lazy.dtype,
            meta=np.empty((0, 0), lazy.dtype),
        )

    def _block_columns(self, rows: Any, n_others: int = 0) -> int:
        """Columns of a block, held twice, when every worker has one."""
        share = int(self.memory_gib * 2**30) // MAX_WORKERS
        column_bytes = 2 * (len(rows) + n_others) * int(rows.dtype.itemsize)
        return max(1, min(BLOCK_COLUMNS, share // column_bytes))

    def _check_parameters(self) -> None:
        k: Any = self.n_components
        if k is not None and not (isinstance(k, int | np.integer) and k >= 1):
            raise ValueError(f"n_components is {k!r}; choose a whole number from 1, or None")
        if self.solver not in ("exact", "krylov"):
            raise ValueError(f"solver is {self.solver!r}; choose 'exact' or 'krylov'")
        if self.solver == "krylov" and (k is None or not self.centre):
            raise ValueError("solver='krylov' needs n_components, and centre=True")
        if not self.memory_gib > 0:
            raise ValueError(f"memory_gib is {self.memory_gib!r}; choose a positive number")

    def _checked(self, X: Any, *, reset: bool) -> Any:
        """X in float32 or float64; what is not an array already becomes one."""
        least = 2 if reset and self.centre else 1
        if not isinstance(X, da.Array | AdapterVectors):
            return validate_data(self, X, reset=reset, dtype=DTYPES, ensure_min_samples=least)
        if X.ndim != 2 or np.isnan(X.shape).any():
            raise ValueError(
                f"X has shape {X.shape}, expected (n, p); reshape it, or compute_chunk_sizes()"
            )
        if reset:
            self.__dict__.pop("feature_names_in_", None)
            self.n_features_in_ = X.shape[1]
        elif X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but GramPCA is expecting {self.n_features_in_} "
                "features as input"
            )
        if np.issubdtype(X.dtype, np.complexfloating):
            raise ValueError("Complex data not supported: X is complex; take its real part")
        return X if isinstance(X, AdapterVectors) or X.dtype in DTYPES else X.astype(np.float64)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _get_fitted_attr_html(self, doc_link: str = "") -> dict[str, Any]:
        """A notebook would look at every attribute, and so compute the components: show none."""
        return {}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _combine_here(
    rows: npt.NDArray[Any], weights: Matrix, width: int, centre: bool, restore: bool
) -> npt.NDArray[Any]:
    """`combine_block` for all blocks of an array, by a few threads."""
    result = np.empty((len(weights), rows.shape[1]), rows.dtype)

    def fill(columns: slice) -> None:
        result[:, columns] = combine_block(rows[:, columns], weights, centre, restore)

    with one_blas_thread(), ThreadPoolExecutor(n_workers()) as pool:
        deque(pool.map(fill, column_blocks(rows.shape[1], width)), maxlen=0)
    return result


def _finite(gram: Matrix) -> Matrix:
    if not np.isfinite(gram).all():
        raise ValueError(
            "X has NaN or infinite entries, or such as overflow when squared; leave those "
            "rows out, or scale X"
        )
    return gram
