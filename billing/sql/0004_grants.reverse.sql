REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {{app_role}};
REVOKE USAGE ON SCHEMA public FROM {{app_role}};
