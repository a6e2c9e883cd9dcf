-- Classes of tables. Doors only: SELECT (0003 grants the doors). Append-only: SELECT, INSERT.
-- Kept: SELECT, INSERT, UPDATE. Others: SELECT, INSERT, UPDATE, DELETE, behind the guards of 0002.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO {{app_role}};

DO $$
DECLARE
  doors_only text[] := ARRAY[
    'billing_creditbalance', 'billing_creditgrant', 'billing_ledgerentry', 'billing_ledgerpart',
    'billing_hold', 'billing_ledgerkey'];
  append_only text[] := ARRAY[
    'billing_usageevent', 'billing_charge', 'billing_journalentry', 'billing_posting',
    'billing_payment', 'billing_allocation', 'billing_documentaccess',
    'billing_approvaldecision', 'billing_auditevent', 'accounts_loginevent'];
  kept text[] := ARRAY['billing_invoicebalance'];
  read_only text[] := ARRAY['django_migrations'];
  name text;
BEGIN
  FOR name IN
    SELECT c.relname FROM pg_catalog.pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND pg_catalog.pg_get_userbyid(c.relowner) = current_user
  LOOP
    EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', name);
    EXECUTE format('REVOKE ALL ON %I FROM {{app_role}}', name);
    IF name = ANY (doors_only) OR name = ANY (read_only) THEN
      EXECUTE format('GRANT SELECT ON %I TO {{app_role}}', name);
    ELSIF name = ANY (append_only) THEN
      EXECUTE format('GRANT SELECT, INSERT ON %I TO {{app_role}}', name);
    ELSIF name = ANY (kept) THEN
      EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO {{app_role}}', name);
    ELSE
      EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO {{app_role}}', name);
    END IF;
  END LOOP;
END $$;

-- Batches name their rows before they write them (billing/bulk.py).
GRANT USAGE ON SEQUENCE billing_invoice_id_seq, billing_journalentry_id_seq,
  billing_usageevent_id_seq TO {{app_role}};

-- Attempts to log in are history too.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON accounts_loginevent
  FOR EACH ROW EXECUTE FUNCTION billing_append_only();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON accounts_loginevent
  FOR EACH STATEMENT EXECUTE FUNCTION billing_no_truncate();
ALTER TABLE accounts_loginevent ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE accounts_loginevent ENABLE ALWAYS TRIGGER no_truncate;
