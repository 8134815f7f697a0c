-- The sequential-thinking server's state: the thoughts of a user's threads, in the order in which they were thought.

CREATE TABLE auralink.thinking_thoughts (
    user_id             uuid NOT NULL DEFAULT auralink.current_user_id(),
    thread              text NOT NULL CHECK (length(thread) BETWEEN 1 AND 200),
    position            integer NOT NULL CHECK (position > 0),
    thought             text NOT NULL,
    thought_number      bigint NOT NULL,
    total_thoughts      bigint NOT NULL,
    next_thought_needed boolean NOT NULL,
    is_revision         boolean,
    revises_thought     bigint,
    branch_from_thought bigint,
    branch_id           text,
    needs_more_thoughts boolean,
    created_at          timestamptz NOT NULL DEFAULT now(),
    idempotency_key     text,
    PRIMARY KEY (user_id, thread, position),
    UNIQUE (user_id, thread, idempotency_key)
);
CREATE INDEX thinking_thoughts_branches ON auralink.thinking_thoughts (user_id, thread, position)
    WHERE branch_from_thought IS NOT NULL AND branch_id <> '';
CALL auralink.protect_tenant_table('auralink.thinking_thoughts');
GRANT SELECT, INSERT, DELETE, UPDATE (created_at) ON auralink.thinking_thoughts TO auralink_service;
