"""A set of static files, as one host took it out of an image."""

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from common.bounds import Count, Time
from common.records.base import IMAGE, Data, Name, Record, StaticsId
from common.records.pool_fields import split_commas

StaticFiles = Annotated[tuple[str, ...], BeforeValidator(split_commas)]


class StaticFile(Data):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: Count


class Statics(Record):
    """A set of static files, as one host took it out of the image. ``files``: by URL below a server's path,
    percent-encoded, without the leading slash. ``missing``: entries of ``static_files`` that the image does not have;
    ``left_out``: files that were too large, or no plain files. ``served``: a frontend has them all."""

    ID_FIELD: ClassVar = "id"

    id: StaticsId = Field(min_length=1)
    image: str = Field(pattern=IMAGE)
    image_id: str
    static_files: StaticFiles
    host: Name
    taken_at: Time
    files: dict[str, StaticFile]
    missing: tuple[str, ...] = ()
    left_out: Count = 0
    served: bool = False

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files.values())
