DROP TRIGGER no_truncate ON accounts_loginevent;
DROP TRIGGER append_only ON accounts_loginevent;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {{app_role}};
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {{app_role}};
REVOKE USAGE ON SCHEMA public FROM {{app_role}};
