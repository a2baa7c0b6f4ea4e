"""Facts that follow from what customers did, derived at each build that is asked for it.

dna.yaml says which (`derive:`). They stand in a namespace of their own, `insight`, never fade, and
are replaced at the next build. Free of I/O: `summary` (what is kept of a customer, and adds up),
`columns` (many customers at once) and `insights` (levels and markers). A shell: `renew`.
"""

from __future__ import annotations

from genome_server.derived.insights import NAMESPACE, Insights

__all__ = ["NAMESPACE", "Insights"]
