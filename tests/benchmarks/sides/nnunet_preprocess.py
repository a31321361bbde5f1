"""A round: a case from its files into nnU-Net's preprocessed folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import nnunet_plans
from served import arguments, serve

told = arguments()
scratch = Path(told["scratch"])
nnunet_plans.use(scratch)
plan = nnunet_plans.plans(told["spacing"][::-1], told["patch"], [8, 16, 32])

import nnunetv2.preprocessing.preprocessors.default_preprocessor  # noqa: E402, F401 - not part of a round


def work() -> None:
    """Preprocess the case anew."""
    shutil.rmtree(scratch / "preprocessed" / nnunet_plans.DATASET, ignore_errors=True)
    nnunet_plans.preprocess(scratch, Path(told["raw"]), ["case"], plan)


serve(work)
