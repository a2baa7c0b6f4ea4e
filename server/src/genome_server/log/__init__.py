"""The log: one raw row per reported batch, in the order in which they became durable.

Everything else on the server is derived from it by offset and can be rebuilt.
`Committer` writes, `LogReader` reads, `verify_log` proves that what is there is whole.
"""

from __future__ import annotations

from genome_server.log.committer import Appended, Committer, Replica
from genome_server.log.framing import Batch, BatchRefusedError, RefusalReason
from genome_server.log.reader import LogBatch, LoggedFrame, LogReader
from genome_server.log.verify import LogFault, LogVerification, verify_log

__all__ = [
    "Appended",
    "Batch",
    "BatchRefusedError",
    "Committer",
    "LogBatch",
    "LogFault",
    "LogReader",
    "LogVerification",
    "LoggedFrame",
    "RefusalReason",
    "Replica",
    "verify_log",
]
