"""What may be installed beside the project."""

from __future__ import annotations

from importlib.metadata import requires, version

from packaging.requirements import Requirement


def demanded() -> dict[str, Requirement]:
    found = (Requirement(text) for text in requires("pansite") or [])
    return {requirement.name: requirement for requirement in found if requirement.marker is None}


def test_lightnings_compromised_releases_are_never_installed() -> None:
    lightning = demanded()["pytorch-lightning"]
    assert not any(lightning.specifier.contains(bad) for bad in ("2.6.2", "2.6.3"))
    assert lightning.specifier.contains(version("pytorch-lightning"))


def test_torchios_unstable_second_version_is_never_installed() -> None:
    torchio = demanded()["torchio"]
    assert not any(torchio.specifier.contains(alpha, prereleases=True) for alpha in ("2.0.0a1", "2.0.0"))
    assert torchio.specifier.contains(version("torchio"))
