ALTER TABLE billing_ledgerpart DROP CONSTRAINT part_is_positive;
ALTER TABLE billing_ledgerentry DROP CONSTRAINT entry_is_sound;
ALTER TABLE billing_creditgrant DROP CONSTRAINT grant_is_sound;
ALTER TABLE billing_creditbalance DROP CONSTRAINT balance_is_sound;
DO $$
DECLARE
  door regprocedure;
BEGIN
  FOR door IN
    SELECT p.oid::regprocedure FROM pg_proc p
     WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'ledger\_%'
  LOOP
    EXECUTE format('DROP FUNCTION %s', door);
  END LOOP;
END $$;
DROP FUNCTION billing_meter_is_kept() CASCADE;
DROP FUNCTION billing_terms_are_frozen() CASCADE;
DROP TRIGGER append_only ON billing_ledgerentry;
DROP TRIGGER append_only ON billing_ledgerpart;
DROP TRIGGER append_only ON billing_ledgerkey;
DROP TRIGGER kept ON billing_creditbalance;
DROP TRIGGER kept ON billing_creditgrant;
DROP TRIGGER kept ON billing_hold;
DROP TRIGGER no_truncate ON billing_ledgerentry;
DROP TRIGGER no_truncate ON billing_ledgerpart;
DROP TRIGGER no_truncate ON billing_ledgerkey;
DROP TRIGGER no_truncate ON billing_creditbalance;
DROP TRIGGER no_truncate ON billing_creditgrant;
DROP TRIGGER no_truncate ON billing_hold;
ALTER TABLE billing_ledgerkey DROP CONSTRAINT key_hold_same_customer;
ALTER TABLE billing_ledgerkey DROP CONSTRAINT key_entry_same_customer;
ALTER TABLE billing_ledgerpart DROP CONSTRAINT part_grant_same_customer;
ALTER TABLE billing_ledgerpart DROP CONSTRAINT part_entry_same_customer;
ALTER TABLE billing_ledgerentry DROP CONSTRAINT entry_cause_same_customer;
ALTER TABLE billing_ledgerentry DROP CONSTRAINT entry_hold_same_customer;
ALTER TABLE billing_ledgerentry DROP CONSTRAINT entry_grant_same_customer;
ALTER TABLE billing_ledgerentry DROP CONSTRAINT entry_subscription_same_customer;
ALTER TABLE billing_ledgerentry DROP CONSTRAINT entry_project_same_customer;
ALTER TABLE billing_ledgerentry DROP CONSTRAINT entry_balance;
ALTER TABLE billing_hold DROP CONSTRAINT hold_subscription_same_customer;
ALTER TABLE billing_hold DROP CONSTRAINT hold_project_same_customer;
ALTER TABLE billing_hold DROP CONSTRAINT hold_balance;
ALTER TABLE billing_creditgrant DROP CONSTRAINT grant_parent_same_customer;
ALTER TABLE billing_creditgrant DROP CONSTRAINT grant_subscription_same_customer;
ALTER TABLE billing_creditgrant DROP CONSTRAINT grant_same_entity;
ALTER TABLE billing_creditgrant DROP CONSTRAINT grant_balance;
ALTER TABLE billing_hold RESET (fillfactor, autovacuum_vacuum_scale_factor);
ALTER TABLE billing_creditgrant RESET (fillfactor, autovacuum_vacuum_scale_factor);
ALTER TABLE billing_creditbalance RESET (fillfactor, autovacuum_vacuum_scale_factor);
