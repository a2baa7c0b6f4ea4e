"""The log: one raw row per reported batch, in the order in which they became durable.

Everything else on the server is derived from it by offset and can be rebuilt.
`Committer` writes, `LogReader` reads, `verify_log` proves that what is there is whole.
"""

from __future__ import annotations

from genome_server.log.committer import Appended, Committer, LogClosedError, Replica
from genome_server.log.framing import Batch, BatchRefusedError, RefusalReason
from genome_server.log.reader import LogBatch, LoggedFrame, LogReader
from genome_server.log.transaction import SERVER, Kept, OwnEvent
from genome_server.log.verify import LogFault, LogVerification, verify_log

__all__ = [
    "SERVER",
    "Appended",
    "Batch",
    "BatchRefusedError",
    "Committer",
    "Kept",
    "LogBatch",
    "LogClosedError",
    "LogFault",
    "LogReader",
    "LogVerification",
    "LoggedFrame",
    "OwnEvent",
    "RefusalReason",
    "Replica",
    "verify_log",
]
