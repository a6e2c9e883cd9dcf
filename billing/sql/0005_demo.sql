-- Removes every row of the sellers marked as demonstration data, and nothing else. It runs as the
-- owner of the tables; the guards let a DELETE through only inside this function. Plans, packs and
-- meters of the demonstration bear codes that begin with demo-; those a real customer uses stay.
CREATE FUNCTION billing_remove_demo() RETURNS TABLE (table_name text, rows_removed bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  step record;
BEGIN
  PERFORM set_config('keter.removing_demo', 'on', true);
  CREATE TEMPORARY TABLE demo_entity ON COMMIT DROP AS
    SELECT id FROM public.billing_legalentity WHERE is_demo;
  CREATE TEMPORARY TABLE demo_customer ON COMMIT DROP AS
    SELECT c.id FROM public.billing_customer c JOIN demo_entity e ON e.id = c.legal_entity_id;
  CREATE TEMPORARY TABLE demo_plan ON COMMIT DROP AS
    SELECT p.id FROM public.billing_plan p
    WHERE p.code LIKE 'demo-%' AND NOT EXISTS (
      SELECT 1 FROM public.billing_subscription s
      JOIN public.billing_planversion v ON v.id = s.plan_version_id
      WHERE v.plan_id = p.id AND s.customer_id NOT IN (SELECT id FROM demo_customer))
      AND NOT EXISTS (
      SELECT 1 FROM public.billing_invoicerun r
      WHERE r.plan_id = p.id AND r.legal_entity_id NOT IN (SELECT id FROM demo_entity));
  CREATE TEMPORARY TABLE demo_version ON COMMIT DROP AS
    SELECT v.id FROM public.billing_planversion v JOIN demo_plan p ON p.id = v.plan_id;
  SET CONSTRAINTS ALL DEFERRED;
  FOR step IN
    SELECT * FROM (VALUES
      ('billing_documentaccess', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_invoicedocument', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_auditevent', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_auditevent', 'customer_id IS NULL AND (subject IN (SELECT ''run:'' || id FROM billing_invoicerun WHERE legal_entity_id IN (SELECT id FROM demo_entity)) OR subject IN (SELECT ''plan_version:'' || id FROM demo_version))'),
      ('billing_posting', 'entry_id IN (SELECT id FROM billing_journalentry WHERE legal_entity_id IN (SELECT id FROM demo_entity))'),
      ('billing_journalentry', 'legal_entity_id IN (SELECT id FROM demo_entity)'),
      ('billing_allocation', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_payment', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_paymentmethod', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_charge', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_ledgerkey', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_ledgerpart', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_ledgerentry', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_hold', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_usageevent', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_usageimport', 'legal_entity_id IN (SELECT id FROM demo_entity)'),
      ('billing_creditgrant', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_creditbalance', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_billedperiod', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_invoicebalance', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_runitem', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_invoiceline', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_invoicetax', 'invoice_id IN (SELECT id FROM billing_invoice WHERE customer_id IN (SELECT id FROM demo_customer))'),
      ('billing_invoice', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_approvaldecision', 'approval_id IN (SELECT id FROM billing_approval WHERE legal_entity_id IN (SELECT id FROM demo_entity))'),
      ('billing_approval', 'legal_entity_id IN (SELECT id FROM demo_entity)'),
      ('billing_invoicerun', 'legal_entity_id IN (SELECT id FROM demo_entity)'),
      ('billing_numberseries', 'legal_entity_id IN (SELECT id FROM demo_entity)'),
      ('billing_subscription', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_project', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_contact', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('accounts_customeruserpermission', 'content_object_id IN (SELECT id FROM demo_customer)'),
      ('accounts_roleassignment', 'customer_id IN (SELECT id FROM demo_customer)'),
      ('billing_customer', 'id IN (SELECT id FROM demo_customer)'),
      ('billing_legalentity', 'id IN (SELECT id FROM demo_entity)'),
      ('billing_price', 'plan_version_id IN (SELECT id FROM demo_version)'),
      ('billing_planversion', 'id IN (SELECT id FROM demo_version)'),
      ('billing_plan', 'id IN (SELECT id FROM demo_plan)'),
      ('billing_creditpack', 'code LIKE ''demo-%'''),
      ('billing_meter', 'code LIKE ''demo-%'' AND NOT EXISTS (SELECT 1 FROM billing_price p WHERE p.meter_id = billing_meter.id) AND NOT EXISTS (SELECT 1 FROM billing_usageevent u WHERE u.meter_id = billing_meter.id)')
    ) AS steps (name, rows_of_demo)
  LOOP
    EXECUTE format('DELETE FROM public.%I WHERE %s', step.name, step.rows_of_demo);
    GET DIAGNOSTICS rows_removed = ROW_COUNT;
    table_name := step.name;
    IF rows_removed > 0 THEN
      RETURN NEXT;
    END IF;
  END LOOP;
  PERFORM set_config('keter.removing_demo', '', true);
END $$;
REVOKE ALL ON FUNCTION billing_remove_demo() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION billing_remove_demo() TO {{app_role}};
