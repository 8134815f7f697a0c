-- The engine of flows is warmed too when a flow is saved.
CREATE TRIGGER is_saved AFTER INSERT ON auralink.prefect_flows FOR EACH ROW EXECUTE FUNCTION auralink.definition_is_saved('prefect');
