"""Methods compared on the same cases: what was measured, what follows from it, and how it is shown.

``measured`` reads evaluations, ``pool`` lays those of a method side by side, ``compute`` makes the numbers, ``words``,
``files``, ``figures`` and ``page`` show them; ``compare`` is ``pansite compare``.
"""
