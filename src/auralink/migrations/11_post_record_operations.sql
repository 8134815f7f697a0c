-- The group commit of older processes; record_outcomes has taken its place.
DROP FUNCTION auralink.record_operations(json);
