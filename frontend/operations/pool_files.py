"""Operators' pool files: TOML with ``[pools.NAME]`` tables or ``[[pool]]`` entries, and the checks before they apply.

``${NAME}`` in ``image`` is taken from the environment, so that one file serves official and locally built images.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import InvalidPool
from common.records.hosts import HostRecord
from common.records.pool_fields import plain_names
from common.records.pools import PoolSpec

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

# Servers of a workshop are mostly idle: their limits may add up to this many times a host's memory before we warn.
MEMORY_OVERCOMMIT = 8


def read_file(path: str, environment: Mapping[str, str]) -> list[PoolSpec]:
    """The specs in a TOML file. Raises ``InvalidPool``, naming file, field, value and what is accepted."""
    try:
        fields = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as exc:
        raise InvalidPool(f"{path}: cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidPool(f"{path}: not valid TOML: {exc}") from exc
    return read_tables(fields, path, environment)


def read_tables(fields: object, where: str, environment: Mapping[str, str]) -> list[PoolSpec]:
    """The specs in a parsed file or JSON body: ``{"pools": {name: {…}}}`` or ``{"pool": [{…}]}``."""
    if not isinstance(fields, dict):
        raise InvalidPool(f"{where}: a table with 'pools' or 'pool' is accepted (given: {str(fields)[:80]!r})")
    unknown = sorted(set(fields) - {"pool", "pools"})
    if unknown:
        raise InvalidPool(f"{where}: unknown field {unknown[0]!r}; accepted: [pools.NAME] tables or [[pool]] entries")
    specs = [_spec(table, f"{where}: {name}", environment) for name, table in _tables(fields, where)]
    if not specs:
        raise InvalidPool(f"{where}: no pool in it; accepted: [pools.NAME] tables or [[pool]] entries")
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise InvalidPool(f"{where}: pool {name!r} is there twice; accepted: each name once")
    return specs


def _tables(fields: dict[str, Any], where: str) -> list[tuple[str, dict[str, Any]]]:
    named, listed = fields.get("pools", {}), fields.get("pool", [])
    if not isinstance(named, dict) or not all(isinstance(table, dict) for table in named.values()):
        raise InvalidPool(f"{where}: pools: tables by name are accepted, as in [pools.default]")
    if not isinstance(listed, list) or not all(isinstance(table, dict) for table in listed):
        raise InvalidPool(f"{where}: pool: a list of tables is accepted, as in [[pool]]")
    found = []
    for name, given in named.items():
        table = plain_names(given, f"{where}: pools.{name}")
        if table.get("name", name) != name:
            raise InvalidPool(f"{where}: pools.{name}: name is {table['name']!r}; accepted: {name!r}, or leave it out")
        found.append((f"pools.{name}", {**table, "name": name}))
    return found + [(f"pool {i}", table) for i, table in enumerate(listed, start=1)]


def _spec(table: dict[str, Any], where: str, environment: Mapping[str, str]) -> PoolSpec:
    if isinstance(table.get("image"), str):
        table = {**table, "image": _expand(table["image"], where, environment)}
    return PoolSpec.parse(table, where)


def _expand(image: str, where: str, environment: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if not environment.get(match[1]):
            raise InvalidPool(f"{where}: image: variable {match[0]} is not set (given: {image!r})")
        return environment[match[1]]

    return _VARIABLE.sub(value, image)


def check_sizes(specs: Sequence[PoolSpec], hosts: Mapping[str, HostRecord]) -> list[str]:
    """Warnings about ``specs`` on the known hosts; raises ``InvalidPool`` for a server that fits on none of them."""
    memories = {name: record.memory_bytes for name, record in hosts.items() if record.memory_bytes}
    if not memories:
        return []
    largest = max(memories.values())
    warnings = []
    for spec in specs:
        if spec.mem_limit_bytes > largest:
            raise InvalidPool(
                f"{spec.name}: mem_limit: at most {largest} bytes are accepted, the memory of the largest known host "
                f"(given: {spec.mem_limit!r})"
            )
        for host, memory in sorted(memories.items()):
            wanted = spec.pool_size * spec.mem_limit_bytes
            if wanted > memory * MEMORY_OVERCOMMIT:
                warnings.append(
                    f"{spec.name}: pool_size {spec.pool_size} x mem_limit {spec.mem_limit} is "
                    f"{wanted / memory:.1f} times the memory of host {host} (more than {MEMORY_OVERCOMMIT})"
                )
    return warnings
