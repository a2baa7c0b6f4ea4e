"""Errors of the server, and what each means for whoever called.

::

    GenomeServerError               the root; `exit_code` is what a command ends with
    ├── UsageError                  2: the caller asked for something that does not make sense
    │   └── NotInitialised          there is no such home or tenant yet
    ├── Refused                     1: understood, and not done
    │   ├── SchemaFileError         dna.yaml does not say what it must
    │   ├── ImportRefused           a file cannot be read at all (single rows are set aside instead)
    │   ├── StoreError              the tenant's database
    │   │   ├── StoreTooNew         written by a newer version of this program
    │   │   ├── StoreDamaged        not a database, or a damaged one
    │   │   └── StoreBusy           another process holds it for too long
    │   └── CodeError               an enrolment code that cannot be used; `reason` says why
    │       ├── CodeInvalid
    │       ├── CodeUsed
    │       └── CodeExpired
    └── Unreachable                 3: something that is needed does not answer

Every message is a sentence for a person: what is wrong, where, and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class GenomeServerError(Exception):
    """The root of what this package raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(GenomeServerError):
    """The caller asked for something that does not make sense."""

    exit_code = 2


class NotInitialised(UsageError):
    """There is no such home or tenant yet."""


class Refused(GenomeServerError):
    """Understood, and not done."""


class TooLittleToLearn(Refused):
    """There are examples to learn from, and not enough of them."""


class SchemaFileError(Refused):
    """dna.yaml does not say what it must."""


class ImportRefused(Refused):
    """A file that cannot be read at all."""


class StoreError(Refused):
    """Something about the tenant's database."""


class StoreTooNew(StoreError):
    """The database was written by a newer version of this program."""


class StoreDamaged(StoreError):
    """The file is not a database, or a damaged one."""


class StoreBusy(StoreError):
    """Another process held the database for longer than we wait."""


class CodeError(Refused):
    """An enrolment code that cannot be used. `reason` is the one on the wire."""

    reason: ClassVar[str] = "CODE_INVALID"


class CodeInvalid(CodeError):
    """Nobody was given this code."""


class CodeUsed(CodeError):
    """The code was used before."""

    reason = "CODE_USED"


class CodeExpired(CodeError):
    """The code is too old."""

    reason = "CODE_EXPIRED"


class Unreachable(GenomeServerError):
    """Something that is needed does not answer."""

    exit_code = 3
