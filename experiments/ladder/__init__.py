"""One trained model along one factor at a time, all else equal: which difference between sites costs it what.

``plan`` says which rungs there are, ``phantoms`` and ``real`` make the scans of a rung (the latter by ``simulation``),
``climb`` measures them and ``cells`` keeps what was measured; ``found`` makes the numbers, ``words``, ``figures``,
``page`` and ``files`` show them; ``ladder`` is ``pansite ladder``.
"""
