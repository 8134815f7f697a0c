"""`python -m auralink_prefect.deploy --pool NAME`: registers the deployment that flows run by, at the server of `PREFECT_API_URL`."""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.utilities.callables import parameter_schema

from auralink_prefect.deployed import run_flow
from auralink_prefect.elsewhere import DEPLOYMENT

ENTRYPOINT = "auralink_prefect.deployed.run_flow"
ENGINES = Path(__file__).resolve().parents[2]


def main() -> None:
    """Registers, and prints what was registered as JSON."""
    parser = argparse.ArgumentParser(prog="auralink_prefect.deploy")
    parser.add_argument("--pool", required=True)
    parser.add_argument("--variables", type=json.loads, default={}, help="job variables, as JSON")
    chosen = parser.parse_args()
    try:
        made = asyncio.run(deploy(chosen.pool, chosen.variables))
    except ObjectNotFound:
        sys.exit(f"the Prefect server has no work pool {chosen.pool!r}; make it with `prefect work-pool create {chosen.pool}`")
    except (httpx.TransportError, PrefectHTTPStatusError) as error:
        sys.exit(f"the Prefect server does not take the deployment: {error or type(error).__name__}")
    sys.stdout.write(json.dumps(made) + "\n")


async def deploy(pool: str, variables: dict[str, Any]) -> dict[str, str]:
    """Registers the deployment for a work pool; one that is there is changed. Raises ObjectNotFound when there is no such pool.

    Workers of a pool of processes find the code where it is now; in images it is where the image has it.
    """
    name = DEPLOYMENT.partition("/")[2]
    async with get_client() as client:
        kind = (await client.read_work_pool(pool)).type
        if kind == "process":
            path = f"{ENGINES / 'protocol'}:{ENGINES / 'prefect'}"
            variables = {"env": {"PYTHONPATH": path, "PYTHONHASHSEED": "0", "DO_NOT_TRACK": "1"}} | variables
        flow_id = await client.create_flow(run_flow)
        made = await client.create_deployment(
            flow_id=flow_id,
            name=name,
            description="Runs the flows of AuraLink; its parameters are set by the service.",
            tags=["auralink"],
            work_pool_name=pool,
            entrypoint=ENTRYPOINT,
            parameter_openapi_schema=parameter_schema(run_flow).model_dump(),
            enforce_parameter_schema=True,
            job_variables=variables,
        )
    return {"deployment": DEPLOYMENT, "id": str(made), "pool": pool, "type": kind}


if __name__ == "__main__":
    main()
