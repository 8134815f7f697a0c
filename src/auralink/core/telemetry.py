"""The metrics of the service, as in docs/reference/metrics.md. No user id in a label; servers that users name are labelled `custom`."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

REGISTRY = CollectorRegistry()
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

mcp_operations = Counter(
    "auralink_mcp_operations_total", "MCP operations by outcome.", ["server", "tool", "outcome"], registry=REGISTRY
)
mcp_duration = Histogram(
    "auralink_mcp_operation_duration_seconds",
    "Time of an MCP operation, in the gateway and upstream.",
    ["server"],
    buckets=SECONDS,
    registry=REGISTRY,
)
mcp_errors = Counter("auralink_mcp_errors_total", "MCP operations that failed, by kind.", ["server", "kind"], registry=REGISTRY)
mcp_sessions = Gauge("auralink_mcp_upstream_sessions", "Open upstream MCP sessions.", registry=REGISTRY)
mcp_breakers = Gauge("auralink_mcp_breakers_open", "Circuit breakers that are open.", ["server"], registry=REGISTRY)
mcp_cache_hits = Counter("auralink_mcp_cache_hits_total", "Calls answered from the cache.", ["server"], registry=REGISTRY)
mcp_rate_limited = Counter("auralink_mcp_rate_limited_total", "Calls refused by a rate limit.", ["server"], registry=REGISTRY)
llm_requests = Counter(
    "auralink_llm_requests_total", "Model calls by outcome.", ["provider", "model", "outcome"], registry=REGISTRY
)
llm_duration = Histogram(
    "auralink_llm_request_duration_seconds", "Time of a model call.", ["provider"], buckets=SECONDS, registry=REGISTRY
)
llm_tokens = Counter(
    "auralink_llm_tokens_total",
    "Tokens of model calls, of the prompt or the completion.",
    ["provider", "model", "kind"],
    registry=REGISTRY,
)
llm_cost = Counter("auralink_llm_cost_usd_total", "What model calls cost, in USD.", ["provider", "model"], registry=REGISTRY)
audit_batch = Histogram(
    "auralink_audit_batch_records",
    "Records in one group commit of the operation log.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200),
    registry=REGISTRY,
)
journal_replays = Counter(
    "auralink_journal_replays_total", "Calls of runs answered from their journal.", ["kind"], registry=REGISTRY
)
run_queue = Gauge("auralink_run_queue_depth", "Runs that are queued.", ["engine"], registry=REGISTRY)
run_queue_age = Gauge("auralink_run_queue_age_seconds", "Age of the oldest queued run.", ["engine"], registry=REGISTRY)
runs_by_status = Gauge("auralink_runs", "Runs that are under way or wait.", ["engine", "status"], registry=REGISTRY)
db_pool = Gauge("auralink_db_pool_connections", "Connections of the database pool by state.", ["state"], registry=REGISTRY)


class FinishedRuns(Collector):
    """Runs that have ended, as the database counts them: every replica shows the same figures."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self.words: Mapping[str, str] = {}
        """What the runs of some engines are called besides: teams' are conversations, Prefect's are flows."""

    def collect(self) -> Iterable[Metric]:
        """The counter, by engine and outcome, and one for each engine whose runs have a name of their own."""
        family = CounterMetricFamily("auralink_agent_executions", "Runs that have ended.", labels=["engine", "outcome"])
        for labels, count in self.counts.items():
            family.add_metric(labels, count)
        yield family
        for named, word in sorted(self.words.items()):
            own = CounterMetricFamily(f"auralink_{named}_{word}", f"Runs on {named} that have ended.", labels=["outcome"])
            for (engine, outcome), count in self.counts.items():
                if engine == named:
                    own.add_metric([outcome], count)
            yield own


finished_runs = FinishedRuns()
REGISTRY.register(finished_runs)


def render_metrics(pool_stats: dict[str, int]) -> bytes:
    """Everything in Prometheus' text format."""
    size, available = pool_stats.get("pool_size", 0), pool_stats.get("pool_available", 0)
    db_pool.labels("idle").set(available)
    db_pool.labels("busy").set(size - available)
    db_pool.labels("waiting").set(pool_stats.get("requests_waiting", 0))
    return generate_latest(REGISTRY)
