from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Lease(_message.Message):
    __slots__ = ("lease_id", "budget", "units", "expires_ms")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    budget: str
    units: int
    expires_ms: int
    def __init__(self, lease_id: _Optional[str] = ..., budget: _Optional[str] = ..., units: _Optional[int] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class LeaseReturn(_message.Message):
    __slots__ = ("lease_id", "spent")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    spent: int
    def __init__(self, lease_id: _Optional[str] = ..., spent: _Optional[int] = ...) -> None: ...
