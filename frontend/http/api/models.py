"""What the models of both applications' APIs share."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

USER = "23456789abcd"


def example(**fields: Any) -> ConfigDict:
    """The configuration of a model with an example."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class HostFigures(BaseModel):
    """Servers of one host."""

    available: int = Field(description="ready, on hosts that take claims")
    capacity: int = Field(description="ready plus claimed there may be")
    claimed: int
    starting: int
    state: Literal["active", "cordoned", "draining"]
    version: str
