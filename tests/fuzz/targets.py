"""The targets by name, and which share of all inputs each is given (they differ in cost by a factor of 100)."""

from tests.fuzz import answers, cluster, pages
from tests.fuzz.harness import Target

TARGETS: dict[str, Target] = {
    "garbage": cluster.garbage,
    "orders": cluster.orders,
    "records": cluster.records,
    "pools": cluster.pool_files,
    "public": pages.public,
    "admin": pages.admin,
    "servers": answers.servers,
    "consul": answers.consul,
    "engine": answers.engine,
    "runtime": answers.runtime_api,
}
SHARES = {
    "garbage": 0.2, "orders": 0.1, "records": 0.15, "pools": 0.1, "public": 0.15, "admin": 0.1, "servers": 0.03,
    "consul": 0.04, "engine": 0.03, "runtime": 0.01, "wire": 0.09,
}  # fmt: skip
