"""Pairs of masks as hypothesis draws them: blobs, dust, nothing, everything, on grids of any spacing."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]
Pair = tuple[Mask, Mask, Spacing]

isotropic = st.floats(0.4, 5.0).map(lambda s: (round(s, 2),) * 3)
anisotropic = st.tuples(*[st.floats(0.4, 5.0).map(lambda s: round(s, 2))] * 3)
thick_slices = st.tuples(st.just(0.8), st.just(0.8), st.sampled_from([2.5, 5.0, 7.0]))
spacings = st.one_of(isotropic, anisotropic, thick_slices)


@st.composite
def masks(draw: st.DrawFn, shape: tuple[int, int, int]) -> Mask:
    """A random blob, possibly empty, full, scattered or touching the border."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    field = ndimage.gaussian_filter(generator.random(shape), draw(st.sampled_from([0.0, 0.8, 1.5])))
    share = draw(st.sampled_from([0.0, 0.02, 0.3, 0.7, 1.0]))
    return np.asarray(field <= np.quantile(field, share)) if share else np.zeros(shape, bool)


@st.composite
def pairs(draw: st.DrawFn, empty: bool = True) -> Pair:
    """Two masks on one grid; neither is empty unless ``empty``."""
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    kinds = masks(shape) if empty else masks(shape).filter(lambda mask: bool(mask.any()))
    return draw(kinds), draw(kinds), draw(spacings)
