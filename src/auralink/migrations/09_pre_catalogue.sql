-- The catalogue of models: who offers them, what they can do, what they cost. Shared by all tenants; holds no secret.

CREATE TABLE auralink.llm_providers (
    provider    text PRIMARY KEY CHECK (provider ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    title       text NOT NULL,
    wire_format text NOT NULL,
    base_url    text,                           -- NULL: part of this service
    self_hosted boolean NOT NULL DEFAULT false,
    updated_at  timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE ON auralink.llm_providers TO auralink_service;

CREATE TABLE auralink.llm_models (
    model_id         text PRIMARY KEY,          -- provider/name
    provider         text NOT NULL REFERENCES auralink.llm_providers (provider),
    name             text NOT NULL,             -- the provider's own
    aliases          text[] NOT NULL DEFAULT '{}',
    title            text NOT NULL,
    tier             text NOT NULL CHECK (tier IN ('fast', 'standard', 'advanced')),
    capabilities     text[] NOT NULL,
    context_window   integer CHECK (context_window > 0),
    max_output       integer CHECK (max_output > 0),
    input_usd        numeric CHECK (input_usd >= 0),          -- USD per million tokens; NULL: not known
    output_usd       numeric CHECK (output_usd >= 0),
    cached_input_usd numeric CHECK (cached_input_usd >= 0),
    cache_write_usd  numeric CHECK (cache_write_usd >= 0),
    long_context     jsonb,                     -- {"above": tokens, prices…}: what all tokens cost where the prompt is longer
    scheduled        jsonb NOT NULL DEFAULT '[]',             -- [{"since": date, prices…, "long_context"}]: announced changes
    deprecated       boolean NOT NULL DEFAULT false,
    enabled          boolean NOT NULL DEFAULT true,
    source           text NOT NULL CHECK (source IN ('package', 'sync', 'config')),
    as_of            date NOT NULL,             -- the day that the prices are of
    updated_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (provider, name),
    CHECK (model_id = provider || '/' || name)
);
GRANT SELECT, INSERT, UPDATE ON auralink.llm_models TO auralink_service;
