"""What a number, a time and a size may be, wherever somebody outside can set one: pools, settings, bodies, records.

No value here makes anything overflow that it goes into: timedelta, datetime, Docker's int64, JavaScript's numbers, a
record in Consul. Infinity and NaN are none of them (``allow_inf_nan=False`` in every model). Pure.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field

# Ten years: nothing here lasts so long, and every date plus it is one that the calendar has.
LONG_S = 10 * 365 * 86_400
# The most that an operator gives a server at once, unless a setting says otherwise: a day.
EXTEND_MAX_S = 86_400.0
# What JavaScript and JSON readers count exactly; bytes and indexes of a lifetime fit.
COUNT_MAX = 2**53
# Docker takes no container with less than 6 MiB; no machine has 64 TiB.
MEMORY_MIN_BYTES, MEMORY_MAX_BYTES = 6 * 2**20, 64 * 2**40
# Linux' largest pid_max, and 4,096 CPUs.
PIDS_MAX, CPU_QUOTA_MAX = 2**22, 4096 * 100_000
# Linux takes 128 KiB for one argument (MAX_ARG_STRLEN) and for one variable.
ARGUMENT_MAX_BYTES = 120_000
VARIABLES_MAX, VARIABLE_NAME_MAX, VARIABLE_MAX_BYTES = 256, 256, 32 * 1024
LABELS_MAX = 64
# A value in Consul holds 512 KiB; a pool's history is one value with five specs.
SPEC_MAX_BYTES = 90_000
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
UNIX_MAX_S = int(LATEST.timestamp())


def _time(value: datetime) -> datetime:
    if value.tzinfo is None or not EARLIEST <= value < LATEST:
        raise ValueError("a time with its zone, from 1970 on and before 2200")
    return value


def check_numbers(value: object) -> None:
    """Of anything that came as JSON. Raises ``ValueError`` for a number that is none, or too large."""
    if isinstance(value, Mapping):
        for item in value.values():
            check_numbers(item)
    elif isinstance(value, list | tuple):
        for item in value:
            check_numbers(item)
    elif isinstance(value, int | float) and not abs(value) <= COUNT_MAX:
        raise ValueError(f"numbers up to {COUNT_MAX} are accepted")


def check_environment(value: Mapping[str, str]) -> Mapping[str, str]:
    """Raises ``ValueError`` for what no process can be given."""
    if len(value) > VARIABLES_MAX:
        raise ValueError(f"at most {VARIABLES_MAX} variables are accepted, not {len(value)}")
    for name, text in value.items():
        if not 0 < len(name) <= VARIABLE_NAME_MAX or "=" in name or any(ord(c) < 33 for c in name):
            raise ValueError(
                f"names of 1 to {VARIABLE_NAME_MAX} characters without '=' and blanks are accepted, not {name[:80]!r}"
            )
        if "\0" in text or len(text.encode()) > VARIABLE_MAX_BYTES:
            raise ValueError(f"{name[:80]}: at most {VARIABLE_MAX_BYTES} bytes, none of them zero, are accepted")
    return value


Count = Annotated[int, Field(ge=0, le=COUNT_MAX)]
Seconds = Annotated[float, Field(ge=0, le=LONG_S)]
UnixTime = Annotated[int, Field(ge=0, le=UNIX_MAX_S)]
Time = Annotated[datetime, AfterValidator(_time)]
Environment = Annotated[dict[str, str], AfterValidator(check_environment)]
