"""FastMCP's proxy as its documentation shows it: `bench/.peers/bin/python bench/fastmcp_proxy.py PORT URL`. It runs in its own
environment and imports nothing of ours."""

import sys

import uvicorn
from fastmcp.server import create_proxy  # type: ignore[import-not-found]

if __name__ == "__main__":
    port, url = sys.argv[1:]
    app = create_proxy(url).http_app(path="/mcp", json_response=True, stateless_http=True)
    uvicorn.run(app, host="127.0.0.1", port=int(port), timeout_graceful_shutdown=1, log_level="error", access_log=False)
