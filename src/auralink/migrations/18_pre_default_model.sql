-- A row that only says what a request without a model means is no preference: `auto` does not look at it.
ALTER TABLE auralink.user_llm_preferences ADD COLUMN preferred boolean NOT NULL DEFAULT true;
