"""Compute the content hashes of all built-in phantom sites and write ``phantom_hashes.json``.

    python -m datamodules.phantom_hashes

Run it after a change of the generator, on purpose, and never after a method has been trained on what it makes.
"""

from __future__ import annotations

import hashlib

from datamodules.atomic import write_json
from datamodules.phantom import generate
from datamodules.phantom_settings import HASHES_FILE, SiteSettings, builtin_sites


def case_hashes(settings: SiteSettings) -> dict[str, str]:
    """The hash of every case of a site, by case id."""
    return {settings.case_id(index): generate(settings, index).digest() for index in range(settings.cases)}


def joined(hashes: dict[str, str]) -> str:
    """One hash over the hashes of several cases."""
    return hashlib.sha256("".join(hashes[name] for name in sorted(hashes)).encode()).hexdigest()


def hash_sites() -> dict[str, str]:
    """What `phantom_settings.committed_hashes` reads: ``content``, the sites, the cases of the test sites."""
    sites, tests = {}, {}
    for name, settings in builtin_sites().items():
        hashes = case_hashes(settings)
        sites[name] = joined(hashes)
        if settings.role == "test":
            tests.update(hashes)
    return {"content": joined(tests), **sites, **tests}


if __name__ == "__main__":
    write_json(HASHES_FILE, hash_sites())
