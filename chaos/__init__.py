"""The kill test: API, worker, engines and Postgres are killed while runs flow, and an oracle counts what came of it."""
