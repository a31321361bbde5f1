"""How the weights of the terms grow and fade."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.schedules import Progress


@given(total=st.integers(1, 5000), share=st.floats(0, 1), where=st.floats(0, 1, exclude_max=True))
def test_a_weight_that_fades_falls_and_is_above_zero_as_long_as_steps_remain(
    total: int, share: float, where: float
) -> None:
    step = int(where * total)
    now, later = Progress(step, total).fade(share), Progress(step + 1, total).fade(share)
    assert 0 < now <= 1
    assert later <= now
    assert (now == 1) == (step <= share * total) or now == pytest.approx(1, abs=1e-9)


def test_it_falls_linearly_to_zero_at_the_end() -> None:
    found = [Progress(step, 10).fade(0.5) for step in range(11)]
    assert found == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0])


@pytest.mark.parametrize("step", [0, 5, 9])
def test_a_share_of_one_never_fades_and_a_share_of_none_fades_from_the_first_step(step: int) -> None:
    assert Progress(step, 10).fade(1.0) == 1.0
    assert Progress(step, 10).fade(0.0) == pytest.approx(1 - step / 10)
