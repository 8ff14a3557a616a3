from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class LuaPerRoute(_message.Message):
    __slots__ = ("disabled", "name")
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    disabled: bool
    name: str
    def __init__(self, disabled: _Optional[bool] = ..., name: _Optional[str] = ...) -> None: ...
