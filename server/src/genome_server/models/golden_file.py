"""Golden vectors in a file of their own: beside a model that comes in, and with one that is kept.

No such file is no error. Anything else by its name is meant as one: what cannot be read is told, as
a model whose vectors were passed over would count as one that they hold for.
"""

from __future__ import annotations

import errno
import stat
from pathlib import Path
from typing import Final

from genome_server.errors import Refused

#: What is added to the name of a model file for the one beside it, and its name with a kept model.
SUFFIX: Final = ".golden.json"
KEPT: Final = "golden.json"
#: The longest text that is read, in characters; of a file, in bytes.
MAX_LENGTH: Final = 4_000_000
_MEND: Final = "put a file of golden vectors there, or nothing"


def read_text(file: Path) -> str | None:
    """The text of a file of golden vectors, None where there is none.

    Raises Refused, naming the file, for what is no regular file, cannot be read, is longer than
    `MAX_LENGTH` or no UTF-8.
    """
    try:
        if not _is_there(file):
            return None
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
            raise Refused(f"{file} is no regular file; {_MEND}")
        if found.st_size > MAX_LENGTH:
            raise Refused(f"{file} has more than {MAX_LENGTH:,} bytes; fewer vectors tell as much")
        return file.read_text("utf-8")
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}; {_MEND}") from None
    except UnicodeDecodeError as error:
        raise Refused(f"{file} is not text: {error}; {_MEND}") from None


def _is_there(file: Path) -> bool:
    """Whether there is anything by this name, a link to nothing included."""
    try:
        file.lstat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return False
        raise
    return True
