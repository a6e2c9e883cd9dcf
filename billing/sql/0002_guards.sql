-- What must never be false, whoever writes: append-only rows, issued invoices, balanced entries,
-- one customer per family of rows. Triggers are ENABLE ALWAYS, so replica mode does not skip them.
-- Every function names pg_temp last: a temporary table of the same name must not be read instead.

-- Rows of append-only tables are never changed. The one way out is the removal of demonstration
-- data, a function that runs as the owner of the tables (0005_demo).
CREATE FUNCTION billing_removing_demo() RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT coalesce(current_setting('keter.removing_demo', true), '') = 'on'
     AND current_user = (SELECT pg_catalog.pg_get_userbyid(relowner) FROM pg_catalog.pg_class
                         WHERE oid = 'public.billing_legalentity'::regclass)
$$;

CREATE FUNCTION billing_append_only() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' AND public.billing_removing_demo() THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION '% is append-only: a mistake is corrected by a new row', TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION billing_no_truncate() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  RAISE EXCEPTION '% keeps its history and cannot be truncated', TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation';
END $$;

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY[
    'billing_usageevent', 'billing_charge', 'billing_journalentry', 'billing_posting',
    'billing_payment', 'billing_allocation', 'billing_documentaccess',
    'billing_approval', 'billing_approvaldecision', 'billing_auditevent'
  ] LOOP
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I
                    FOR EACH ROW EXECUTE FUNCTION billing_append_only()', name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER append_only', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY[
    'billing_usageevent', 'billing_charge', 'billing_journalentry', 'billing_posting',
    'billing_payment', 'billing_allocation', 'billing_documentaccess',
    'billing_approval', 'billing_approvaldecision', 'billing_auditevent',
    'billing_invoice', 'billing_invoiceline', 'billing_invoicetax', 'billing_invoicedocument',
    'billing_invoicebalance', 'billing_numberseries', 'billing_billedperiod'
  ] LOOP
    EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I
                    FOR EACH STATEMENT EXECUTE FUNCTION billing_no_truncate()', name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER no_truncate', name);
  END LOOP;
END $$;

-- Invoices: changes only while draft, in review or approved; afterwards only issued -> void.
CREATE FUNCTION billing_invoice_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF OLD.state IN ('issued', 'void') AND NOT public.billing_removing_demo() THEN
      RAISE EXCEPTION 'invoice % is issued and cannot be deleted', OLD.number
        USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
  END IF;
  IF TG_OP = 'INSERT' THEN
    IF NEW.state <> 'draft' THEN
      RAISE EXCEPTION 'an invoice starts as a draft' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
  END IF;
  IF OLD.state IN ('issued', 'void') THEN
    IF OLD.state = 'issued' AND NEW.state = 'void'
       AND to_jsonb(NEW) - 'state' = to_jsonb(OLD) - 'state' THEN
      IF OLD.kind <> 'invoice' OR NOT EXISTS (
        SELECT 1 FROM public.billing_invoice n
        WHERE n.corrects_id = OLD.id AND n.customer_id = OLD.customer_id
          AND n.kind = 'credit_note' AND n.state = 'issued'
          AND n.currency = OLD.currency AND n.payable = OLD.payable) THEN
        RAISE EXCEPTION 'invoice % is issued and void only with a credit note over all of it',
          OLD.number USING ERRCODE = 'restrict_violation';
      END IF;
      RETURN NEW;
    END IF;
    RAISE EXCEPTION 'invoice % is issued and cannot be changed', OLD.number
      USING ERRCODE = 'restrict_violation';
  END IF;
  IF NEW.state = 'void' THEN
    RAISE EXCEPTION 'a draft is deleted, not voided' USING ERRCODE = 'restrict_violation';
  END IF;
  IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
       ('draft', 'in_review'), ('in_review', 'draft'), ('in_review', 'approved'),
       ('approved', 'draft'), ('approved', 'issued')) THEN
    RAISE EXCEPTION 'invoice % is % and cannot become %', OLD.id, OLD.state, NEW.state
      USING ERRCODE = 'restrict_violation';
  END IF;
  -- Only what the house itself made, such as a sale paid first, goes without a second person.
  IF NEW.state IN ('approved', 'issued') AND NEW.approved_by_id IS NULL
     AND NEW.created_by_id IS NOT NULL THEN
    RAISE EXCEPTION 'invoice % was made by a person and is approved by another', OLD.id
      USING ERRCODE = 'check_violation';
  END IF;
  IF (NEW.id, NEW.public_id, NEW.customer_id, NEW.legal_entity_id, NEW.currency, NEW.kind,
      NEW.corrects_id, NEW.run_id, NEW.key, NEW.created_by_id, NEW.created_at)
     IS DISTINCT FROM
     (OLD.id, OLD.public_id, OLD.customer_id, OLD.legal_entity_id, OLD.currency, OLD.kind,
      OLD.corrects_id, OLD.run_id, OLD.key, OLD.created_by_id, OLD.created_at) THEN
    RAISE EXCEPTION 'an invoice keeps its customer, seller, currency, kind, author and run'
      USING ERRCODE = 'restrict_violation';
  END IF;
  -- What was approved is what is issued.
  IF (NEW.state IN ('approved', 'issued') OR OLD.state = 'approved')
     AND (NEW.supply_from, NEW.supply_to, NEW.net, NEW.tax, NEW.gross, NEW.rounding, NEW.payable,
          NEW.notes) IS DISTINCT FROM
         (OLD.supply_from, OLD.supply_to, OLD.net, OLD.tax, OLD.gross, OLD.rounding, OLD.payable,
          OLD.notes)
     OR OLD.state = 'approved' AND NEW.state <> 'draft'
     AND NEW.approved_by_id IS DISTINCT FROM OLD.approved_by_id THEN
    RAISE EXCEPTION 'invoice % is approved as it is; take it back to draft first', OLD.id
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER invoice_guard BEFORE INSERT OR UPDATE OR DELETE ON billing_invoice
  FOR EACH ROW EXECUTE FUNCTION billing_invoice_guard();
ALTER TABLE billing_invoice ENABLE ALWAYS TRIGGER invoice_guard;

-- Decimals of a currency by ISO 4217, as billing.rules.money has them; a test compares the two.
CREATE FUNCTION billing_currency_places(currency text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN currency IN ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX',
                      'UYI', 'VND', 'VUV', 'XAF', 'XOF', 'XPF') THEN 0
    WHEN currency IN ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') THEN 3
    WHEN currency IN ('CLF', 'UYW') THEN 4
    ELSE 2
  END
$$;

-- What is issued adds up: lines, VAT groups and totals, for all invoices of a statement at once.
-- The document it froze says the same, its number comes from the series in the order of the days,
-- and what it bills is marked as billed.
CREATE FUNCTION billing_issued_adds_up() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  touched bigint[];
  crooked record;
BEGIN
  SELECT array_agg(fresh.id) INTO touched FROM fresh JOIN stale USING (id)
   WHERE fresh.state = 'issued' AND stale.state <> 'issued';
  IF touched IS NULL THEN
    RETURN NULL;
  END IF;
  WITH lines AS (
    SELECT invoice_id AS id, sum(net) AS net
    FROM public.billing_invoiceline WHERE invoice_id = ANY (touched) GROUP BY invoice_id
  ), groups AS (
    SELECT invoice_id AS id, sum(taxable) AS taxable, sum(tax) AS tax
    FROM public.billing_invoicetax WHERE invoice_id = ANY (touched) GROUP BY invoice_id
  )
  SELECT i.id, i.net, i.tax, l.net AS lines, g.taxable, g.tax AS taxes INTO crooked
  FROM fresh i LEFT JOIN lines l USING (id) LEFT JOIN groups g USING (id)
  WHERE i.id = ANY (touched) AND (l.net IS DISTINCT FROM i.net
        OR g.taxable IS DISTINCT FROM i.net OR g.tax IS DISTINCT FROM i.tax) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'invoice % does not add up: lines %, taxable %, net %, tax % against %',
      crooked.id, crooked.lines, crooked.taxable, crooked.net, crooked.taxes, crooked.tax
      USING ERRCODE = 'check_violation';
  END IF;
  -- Times 0.01, because a division would round. A credit note that takes the rest of a group takes
  -- the rest of its VAT, which may be a coin off.
  WITH lines AS (
    SELECT invoice_id AS id, tax_category AS category, tax_rate AS rate, sum(net) AS net
    FROM public.billing_invoiceline WHERE invoice_id = ANY (touched) GROUP BY 1, 2, 3
  ), groups AS (
    SELECT invoice_id AS id, category, rate, taxable, tax
    FROM public.billing_invoicetax WHERE invoice_id = ANY (touched)
  )
  SELECT id, category, rate, l.net AS lines, g.taxable, g.tax INTO crooked
  FROM lines l FULL JOIN groups g USING (id, category, rate)
  JOIN (SELECT f.id, f.kind, public.billing_currency_places(f.currency) AS places FROM fresh f
        WHERE f.id = ANY (touched)) i USING (id)
  WHERE l.net IS DISTINCT FROM g.taxable
     -- The nearest coin, halves away from zero, said without computing it: only the rules round.
     OR scale(trim_scale(g.tax)) > places
     OR NOT CASE
       WHEN i.kind = 'credit_note'
       THEN abs(g.tax - g.taxable * g.rate * 0.01) <= 1.5 * power(10::numeric, -places)
       ELSE abs(g.tax) - abs(g.taxable * g.rate * 0.01) > -0.5 * power(10::numeric, -places)
        AND abs(g.tax) - abs(g.taxable * g.rate * 0.01) <= 0.5 * power(10::numeric, -places)
        AND sign(g.tax) * sign(g.taxable * g.rate) >= 0
     END LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'invoice % does not add up: lines of % % %% are %, taxable %, tax %',
      crooked.id, crooked.category, crooked.rate, crooked.lines, crooked.taxable, crooked.tax
      USING ERRCODE = 'check_violation';
  END IF;
  -- Taken apart once: each look into a snapshot unpacks all of it.
  SELECT i.id INTO crooked
  FROM fresh i CROSS JOIN LATERAL jsonb_to_record(i.snapshot) AS printed (
    number text, kind text, currency text, issued_on text, net numeric, tax numeric,
    gross numeric, paid numeric, payable numeric)
  WHERE i.id = ANY (touched)
    AND (printed.number, printed.kind, printed.currency, printed.issued_on,
         printed.net, printed.tax, printed.gross, printed.paid + printed.payable)
        IS DISTINCT FROM
        (i.number, i.kind, i.currency, i.issued_on::text, i.net, i.tax, i.gross, i.payable)
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'invoice %: its document says something else than its columns', crooked.id
      USING ERRCODE = 'check_violation';
  END IF;
  -- Each number against its neighbours is enough, because there are no gaps.
  SELECT i.id, i.number, i.issued_on INTO crooked
  FROM fresh i JOIN public.billing_numberseries s ON s.id = i.series_id
  WHERE i.id = ANY (touched) AND (
    i.sequence >= s.next_number OR s.kind <> i.kind OR s.legal_entity_id <> i.legal_entity_id
    OR s.year <> extract(year FROM i.issued_on)
    OR s.last_issued_on IS NULL OR i.issued_on > s.last_issued_on
    OR EXISTS (SELECT 1 FROM public.billing_invoice n
               WHERE n.series_id = i.series_id AND n.sequence = i.sequence - 1
                 AND n.issued_on > i.issued_on)
    OR EXISTS (SELECT 1 FROM public.billing_invoice n
               WHERE n.series_id = i.series_id AND n.sequence = i.sequence + 1
                 AND n.issued_on < i.issued_on)) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'number % of % does not follow from its series',
      crooked.number, crooked.issued_on USING ERRCODE = 'check_violation';
  END IF;
  SELECT l.invoice_id AS id, l.position INTO crooked
  FROM public.billing_invoiceline l JOIN fresh i ON i.id = l.invoice_id AND i.kind = 'invoice'
  WHERE l.invoice_id = ANY (touched) AND l.subscription_id IS NOT NULL AND l.price_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM public.billing_billedperiod p
                    WHERE p.invoice_id = ANY (touched)  -- never all that was ever billed
                      AND p.invoice_id = l.invoice_id AND p.subscription_id = l.subscription_id
                      AND p.price_id = l.price_id AND NOT p.voided
                      AND p.period = daterange(l.supply_from, l.supply_to)) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'line % of invoice % bills a period that is not marked as billed',
      crooked.position, crooked.id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER issued_adds_up AFTER UPDATE ON billing_invoice
  REFERENCING OLD TABLE AS stale NEW TABLE AS fresh
  FOR EACH STATEMENT EXECUTE FUNCTION billing_issued_adds_up();
ALTER TABLE billing_invoice ENABLE ALWAYS TRIGGER issued_adds_up;

-- Per statement, because a run writes thousands of lines in one. The invoices are locked first, so
-- that no line slips in while another transaction issues them.
CREATE FUNCTION billing_invoice_part_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  touched bigint[];
  frozen bigint;
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF public.billing_removing_demo() THEN
      RETURN NULL;
    END IF;
    SELECT array_agg(DISTINCT invoice_id) INTO touched FROM gone;
  ELSE
    SELECT array_agg(DISTINCT invoice_id) INTO touched FROM added;
  END IF;
  IF TG_OP = 'UPDATE' THEN
    IF (SELECT count(*) FROM gone JOIN added USING (id, invoice_id))
       <> (SELECT count(*) FROM added) THEN
      RAISE EXCEPTION 'a line stays on its invoice' USING ERRCODE = 'restrict_violation';
    END IF;
  END IF;
  PERFORM 1 FROM public.billing_invoice WHERE id = ANY (touched) ORDER BY id FOR SHARE;
  SELECT id INTO frozen FROM public.billing_invoice
   WHERE id = ANY (touched) AND state IN ('issued', 'void') LIMIT 1;
  IF frozen IS NOT NULL THEN
    RAISE EXCEPTION 'invoice % is issued; its lines and tax cannot be changed', frozen
      USING ERRCODE = 'restrict_violation';
  END IF;
  -- Once approved, only the day of the tax point moves, to the day of issue.
  SELECT array_agg(id) INTO touched FROM public.billing_invoice
   WHERE id = ANY (touched) AND state = 'approved';
  IF touched IS NULL THEN
    RETURN NULL;
  END IF;
  IF TG_OP = 'UPDATE' THEN
    SELECT b.invoice_id INTO frozen FROM gone b JOIN added a USING (id)
     WHERE b.invoice_id = ANY (touched)
       AND to_jsonb(a) - 'tax_point_on' <> to_jsonb(b) - 'tax_point_on' LIMIT 1;
  ELSE
    frozen := touched[1];
  END IF;
  IF frozen IS NOT NULL THEN
    RAISE EXCEPTION
      'invoice % is approved; its lines and tax cannot be changed before it is a draft again',
      frozen USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NULL;
END $$;
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['billing_invoiceline', 'billing_invoicetax'] LOOP
    EXECUTE format('CREATE TRIGGER added_guard AFTER INSERT ON %I REFERENCING NEW TABLE AS added
                    FOR EACH STATEMENT EXECUTE FUNCTION billing_invoice_part_guard()', name);
    EXECUTE format('CREATE TRIGGER changed_guard AFTER UPDATE ON %I
                    REFERENCING OLD TABLE AS gone NEW TABLE AS added
                    FOR EACH STATEMENT EXECUTE FUNCTION billing_invoice_part_guard()', name);
    EXECUTE format('CREATE TRIGGER gone_guard AFTER DELETE ON %I REFERENCING OLD TABLE AS gone
                    FOR EACH STATEMENT EXECUTE FUNCTION billing_invoice_part_guard()', name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER added_guard', name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER changed_guard', name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER gone_guard', name);
  END LOOP;
END $$;

-- A rendered file is set once.
CREATE FUNCTION billing_document_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF public.billing_removing_demo() THEN RETURN OLD; END IF;
    RAISE EXCEPTION 'a document is kept' USING ERRCODE = 'restrict_violation';
  END IF;
  IF OLD.state = 'ready' THEN
    RAISE EXCEPTION 'document % is made; its file is set once', OLD.id
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER document_guard BEFORE UPDATE OR DELETE ON billing_invoicedocument
  FOR EACH ROW EXECUTE FUNCTION billing_document_guard();
ALTER TABLE billing_invoicedocument ENABLE ALWAYS TRIGGER document_guard;

-- Numbers run on: the counter never goes back, the date never before the last one.
CREATE FUNCTION billing_series_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF OLD.next_number = 1 OR public.billing_removing_demo() THEN RETURN OLD; END IF;
    RAISE EXCEPTION 'series % has given numbers and is kept', OLD.id
      USING ERRCODE = 'restrict_violation';
  END IF;
  IF NEW.next_number < OLD.next_number OR NEW.last_issued_on < OLD.last_issued_on
     OR (NEW.legal_entity_id, NEW.kind, NEW.year)
        IS DISTINCT FROM (OLD.legal_entity_id, OLD.kind, OLD.year) THEN
    RAISE EXCEPTION 'numbers and dates of series % only run forward (last date %)',
      OLD.id, OLD.last_issued_on USING ERRCODE = 'restrict_violation';
  END IF;
  IF NEW.last_issued_on IS DISTINCT FROM OLD.last_issued_on AND OLD.last_issued_on IS NOT NULL
     AND NEW.next_number = OLD.next_number THEN
    RAISE EXCEPTION 'the last date of series % moves with a number only', OLD.id
      USING ERRCODE = 'restrict_violation';
  END IF;
  IF NEW.pattern <> OLD.pattern
     AND EXISTS (SELECT 1 FROM public.billing_invoice WHERE series_id = OLD.id) THEN
    RAISE EXCEPTION 'series % has given numbers and keeps its pattern', OLD.id
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER series_guard BEFORE UPDATE OR DELETE ON billing_numberseries
  FOR EACH ROW EXECUTE FUNCTION billing_series_guard();
ALTER TABLE billing_numberseries ENABLE ALWAYS TRIGGER series_guard;

-- No gaps: when a transaction commits, every number it took stands on an invoice. A series that has
-- given none yet may be started anywhere, as a cut-over does.
CREATE FUNCTION billing_series_is_gapless() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  first integer := CASE WHEN TG_OP = 'INSERT' THEN 1 ELSE OLD.next_number END;
  given bigint;
BEGIN
  SELECT count(*) INTO given FROM public.billing_invoice
   WHERE series_id = NEW.id AND sequence >= first AND sequence < NEW.next_number;
  IF given <> NEW.next_number - first
     AND EXISTS (SELECT 1 FROM public.billing_invoice WHERE series_id = NEW.id) THEN
    RAISE EXCEPTION 'series %: numbers % to % stand on % invoices',
      NEW.id, first, NEW.next_number - 1, given USING ERRCODE = 'check_violation';
  END IF;
  IF EXISTS (SELECT 1 FROM public.billing_invoice
             WHERE series_id = NEW.id AND sequence = NEW.next_number - 1
               AND issued_on IS DISTINCT FROM NEW.last_issued_on) THEN
    RAISE EXCEPTION 'series %: its last date is not that of its last number', NEW.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER series_is_gapless AFTER INSERT OR UPDATE ON billing_numberseries
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing_series_is_gapless();
ALTER TABLE billing_numberseries ENABLE ALWAYS TRIGGER series_is_gapless;

-- What was billed stays billed: a period of an issued invoice is only ever voided with it.
CREATE FUNCTION billing_billed_period_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  state_now text;
BEGIN
  IF TG_OP = 'DELETE' AND public.billing_removing_demo() THEN
    RETURN OLD;
  END IF;
  IF TG_OP = 'UPDATE'
     AND (to_jsonb(NEW) - 'voided' <> to_jsonb(OLD) - 'voided' OR OLD.voided) THEN
    RAISE EXCEPTION 'a billed period is only ever voided' USING ERRCODE = 'restrict_violation';
  END IF;
  SELECT state INTO state_now FROM public.billing_invoice WHERE id = OLD.invoice_id FOR SHARE;
  IF NOT (state_now = 'void' AND TG_OP = 'UPDATE'
          OR state_now IN ('draft', 'in_review') AND TG_OP = 'DELETE') THEN
    RAISE EXCEPTION 'invoice % is %; what it billed stays billed', OLD.invoice_id, state_now
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER billed_period_guard BEFORE UPDATE OR DELETE ON billing_billedperiod
  FOR EACH ROW EXECUTE FUNCTION billing_billed_period_guard();
ALTER TABLE billing_billedperiod ENABLE ALWAYS TRIGGER billed_period_guard;

CREATE FUNCTION billing_billed_period_added() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  touched bigint[];
  late record;
BEGIN
  IF EXISTS (SELECT 1 FROM added WHERE voided) THEN
    RAISE EXCEPTION 'a billed period starts unvoided' USING ERRCODE = 'restrict_violation';
  END IF;
  SELECT array_agg(DISTINCT invoice_id) INTO touched FROM added;
  PERFORM 1 FROM public.billing_invoice WHERE id = ANY (touched) ORDER BY id FOR SHARE;
  SELECT id, state INTO late FROM public.billing_invoice
   WHERE id = ANY (touched) AND state NOT IN ('draft', 'in_review') LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'invoice % is %; it bills no further period', late.id, late.state
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER billed_period_added AFTER INSERT ON billing_billedperiod
  REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION billing_billed_period_added();
ALTER TABLE billing_billedperiod ENABLE ALWAYS TRIGGER billed_period_added;

-- All postings of an entry come in one statement and add up to zero; it never gains another, and
-- no entry commits without them.
CREATE FUNCTION billing_postings_balance() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  crooked record;
  touched bigint[];
BEGIN
  SELECT entry_id, sum(amount) AS total, count(*) AS legs INTO crooked
    FROM added GROUP BY entry_id HAVING sum(amount) <> 0 OR count(*) < 2 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'journal entry % does not balance: % over % postings',
      crooked.entry_id, crooked.total, crooked.legs USING ERRCODE = 'check_violation';
  END IF;
  -- An array, because nothing is known of a transition table: a join would read all postings.
  SELECT array_agg(DISTINCT entry_id) INTO touched FROM added;
  IF (SELECT count(*) FROM public.billing_posting WHERE entry_id = ANY (touched))
     <> (SELECT count(*) FROM added) THEN
    RAISE EXCEPTION 'a journal entry is complete and gains no posting'
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER postings_balance AFTER INSERT ON billing_posting REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION billing_postings_balance();
ALTER TABLE billing_posting ENABLE ALWAYS TRIGGER postings_balance;

CREATE FUNCTION billing_entry_has_postings() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM public.billing_posting WHERE entry_id = NEW.id) THEN
    RAISE EXCEPTION 'journal entry % does not balance: it has no postings', NEW.id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER entry_has_postings AFTER INSERT ON billing_journalentry
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing_entry_has_postings();
ALTER TABLE billing_journalentry ENABLE ALWAYS TRIGGER entry_has_postings;

-- A reversal undoes one payment, all of it.
CREATE FUNCTION billing_payment_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF NOT EXISTS (
    SELECT 1 FROM public.billing_payment p
    WHERE p.id = NEW.reverses_id AND p.reverses_id IS NULL AND p.amount = -NEW.amount
      AND p.legal_entity_id = NEW.legal_entity_id AND p.customer_id = NEW.customer_id
      AND p.currency = NEW.currency) THEN
    RAISE EXCEPTION 'a reversal takes back a whole payment of the same customer and currency'
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER payment_guard BEFORE INSERT ON billing_payment
  FOR EACH ROW WHEN (NEW.reverses_id IS NOT NULL) EXECUTE FUNCTION billing_payment_guard();
ALTER TABLE billing_payment ENABLE ALWAYS TRIGGER payment_guard;

-- Credits are paid by an entry of the ledger, or they were not paid.
ALTER TABLE billing_charge ADD CONSTRAINT charge_credits_have_an_entry
  CHECK (credits = 0 OR entry_id IS NOT NULL);

-- An allocation stays within its payment and its invoice, and in one currency. The locks are
-- advisory because the application may not lock rows of append-only tables; they are taken in
-- the order payment, invoice.
CREATE FUNCTION billing_allocation_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  paid record;
  billed record;
  used numeric;
  settled numeric;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('payment:' || NEW.payment_id, 0));
  PERFORM pg_advisory_xact_lock(hashtextextended('invoice paid:' || NEW.invoice_id, 0));
  IF NEW.reverses_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM public.billing_allocation a
    WHERE a.id = NEW.reverses_id AND a.reverses_id IS NULL AND a.amount = -NEW.amount
      AND a.payment_id = NEW.payment_id AND a.invoice_id = NEW.invoice_id) THEN
    RAISE EXCEPTION 'a reversal takes back a whole allocation of the same payment and invoice'
      USING ERRCODE = 'check_violation';
  END IF;
  SELECT currency, amount INTO paid FROM public.billing_payment WHERE id = NEW.payment_id;
  SELECT currency, state, payable INTO billed FROM public.billing_invoice WHERE id = NEW.invoice_id;
  IF paid.currency <> billed.currency THEN
    RAISE EXCEPTION 'a payment in % cannot pay an invoice in %', paid.currency, billed.currency
      USING ERRCODE = 'check_violation';
  END IF;
  IF billed.state <> 'issued' THEN
    RAISE EXCEPTION 'only an issued invoice can be paid' USING ERRCODE = 'check_violation';
  END IF;
  SELECT coalesce(sum(amount), 0) INTO used
    FROM public.billing_allocation WHERE payment_id = NEW.payment_id;
  IF used + NEW.amount > paid.amount OR used + NEW.amount < 0 THEN
    RAISE EXCEPTION 'payment % of % is already used for %', NEW.payment_id, paid.amount, used
      USING ERRCODE = 'check_violation';
  END IF;
  SELECT coalesce(sum(amount), 0) INTO settled
    FROM public.billing_allocation WHERE invoice_id = NEW.invoice_id;
  IF settled + NEW.amount > billed.payable OR settled + NEW.amount < 0 THEN
    RAISE EXCEPTION 'invoice % of % is already paid with %', NEW.invoice_id, billed.payable, settled
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER allocation_guard BEFORE INSERT ON billing_allocation
  FOR EACH ROW EXECUTE FUNCTION billing_allocation_guard();
ALTER TABLE billing_allocation ENABLE ALWAYS TRIGGER allocation_guard;

-- Published terms are frozen: only the state of a version moves on, its prices not at all.
CREATE FUNCTION billing_plan_version_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF OLD.state <> 'draft' THEN
    IF TG_OP = 'DELETE' THEN
      IF public.billing_removing_demo() THEN RETURN OLD; END IF;
      RAISE EXCEPTION 'a published plan version is kept' USING ERRCODE = 'restrict_violation';
    END IF;
    IF to_jsonb(NEW) - 'state' <> to_jsonb(OLD) - 'state' OR NEW.state = 'draft'
       OR OLD.state = 'archived' AND NEW.state <> 'archived' THEN
      RAISE EXCEPTION 'version % is published; make a new version instead', OLD.number
        USING ERRCODE = 'restrict_violation';
    END IF;
  END IF;
  RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER plan_version_guard BEFORE UPDATE OR DELETE ON billing_planversion
  FOR EACH ROW EXECUTE FUNCTION billing_plan_version_guard();
ALTER TABLE billing_planversion ENABLE ALWAYS TRIGGER plan_version_guard;

CREATE FUNCTION billing_price_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' AND public.billing_removing_demo() THEN RETURN OLD; END IF;
  IF EXISTS (
    SELECT 1 FROM public.billing_planversion v
    WHERE v.state <> 'draft'
      AND v.id IN (CASE WHEN TG_OP <> 'INSERT' THEN OLD.plan_version_id END,
                   CASE WHEN TG_OP <> 'DELETE' THEN NEW.plan_version_id END)
  ) THEN
    RAISE EXCEPTION 'this price belongs to a published version; make a new version instead'
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER price_guard BEFORE INSERT OR UPDATE OR DELETE ON billing_price
  FOR EACH ROW EXECUTE FUNCTION billing_price_guard();
ALTER TABLE billing_price ENABLE ALWAYS TRIGGER price_guard;

-- A seller never turns into demonstration data, nor the reverse; a customer keeps its seller.
CREATE FUNCTION billing_entity_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF NEW.is_demo <> OLD.is_demo THEN
    RAISE EXCEPTION 'real and demonstration data are never turned into each other'
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER entity_guard BEFORE UPDATE ON billing_legalentity
  FOR EACH ROW EXECUTE FUNCTION billing_entity_guard();
ALTER TABLE billing_legalentity ENABLE ALWAYS TRIGGER entity_guard;

CREATE FUNCTION billing_customer_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF NEW.legal_entity_id <> OLD.legal_entity_id THEN
    RAISE EXCEPTION 'a customer keeps its seller' USING ERRCODE = 'restrict_violation';
  END IF;
  -- Periods are days in the customer's zone at prices in its currency: another zone or currency
  -- would bill some of them twice and others never.
  IF (NEW.time_zone, NEW.currency) IS DISTINCT FROM (OLD.time_zone, OLD.currency)
     AND EXISTS (SELECT 1 FROM public.billing_billedperiod WHERE customer_id = OLD.id) THEN
    RAISE EXCEPTION 'a customer keeps its time zone and currency once it is billed'
      USING ERRCODE = 'restrict_violation';
  END IF;
  -- A confirmation is for one VAT ID; another one has to be confirmed itself.
  IF NEW.vat_id <> OLD.vat_id AND NEW.vat_id_valid_on IS NOT DISTINCT FROM OLD.vat_id_valid_on THEN
    NEW.vat_id_valid_on := NULL;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER customer_guard BEFORE UPDATE ON billing_customer
  FOR EACH ROW EXECUTE FUNCTION billing_customer_guard();
ALTER TABLE billing_customer ENABLE ALWAYS TRIGGER customer_guard;

-- Maker and checker are two people.
CREATE FUNCTION billing_decision_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM public.billing_approval
             WHERE id = NEW.approval_id AND requested_by_id = NEW.decided_by_id) THEN
    RAISE EXCEPTION 'nobody decides on their own request' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER decision_guard BEFORE INSERT ON billing_approvaldecision
  FOR EACH ROW EXECUTE FUNCTION billing_decision_guard();
ALTER TABLE billing_approvaldecision ENABLE ALWAYS TRIGGER decision_guard;

-- Runs: one step after the other, by an author who stays the same, approved by somebody else.
CREATE FUNCTION billing_run_remembers() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF NEW.state = 'stopped' AND OLD.state <> 'stopped' THEN
    NEW.resume_state := OLD.state;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER run_remembers BEFORE UPDATE ON billing_invoicerun
  FOR EACH ROW EXECUTE FUNCTION billing_run_remembers();
ALTER TABLE billing_invoicerun ENABLE ALWAYS TRIGGER run_remembers;

-- After the row's own checks, which speak first.
CREATE FUNCTION billing_run_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF OLD.state <> 'planned' AND NOT public.billing_removing_demo() THEN
      RAISE EXCEPTION 'run % has begun and is kept', OLD.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
  END IF;
  IF TG_OP = 'INSERT' THEN
    IF NEW.state <> 'planned' OR NEW.approved_by_id IS NOT NULL OR NEW.resume_state <> '' THEN
      RAISE EXCEPTION 'a run starts as planned' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
  END IF;
  IF (NEW.id, NEW.legal_entity_id, NEW.plan_id, NEW.period, NEW.scope_key, NEW.created_at)
     IS DISTINCT FROM
     (OLD.id, OLD.legal_entity_id, OLD.plan_id, OLD.period, OLD.scope_key, OLD.created_at)
     OR OLD.author_id IS NOT NULL AND NEW.author_id IS DISTINCT FROM OLD.author_id THEN
    RAISE EXCEPTION 'a run keeps its seller, period, plan and author'
      USING ERRCODE = 'restrict_violation';
  END IF;
  -- Also back to work from a later step, when customers that were set aside are retried.
  IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
       ('planned', 'drafting'), ('planned', 'stopped'),
       ('drafting', 'in_review'), ('drafting', 'done'), ('drafting', 'stopped'),
       ('in_review', 'drafting'), ('in_review', 'approved'), ('in_review', 'stopped'),
       ('approved', 'in_review'), ('approved', 'issuing'), ('approved', 'stopped'),
       ('approved', 'drafting'),
       ('issuing', 'delivering'), ('issuing', 'stopped'), ('issuing', 'drafting'),
       ('delivering', 'done'), ('delivering', 'stopped'),
       ('delivering', 'drafting'), ('delivering', 'issuing'),
       ('done', 'drafting'), ('done', 'issuing'))
     AND NOT (OLD.state = 'stopped' AND NEW.state = OLD.resume_state) THEN
    RAISE EXCEPTION 'run % is % and cannot become %', OLD.id, OLD.state, NEW.state
      USING ERRCODE = 'restrict_violation';
  END IF;
  IF NEW.resume_state <> OLD.resume_state
     AND NOT (NEW.state = 'stopped' AND OLD.state <> 'stopped')
     AND NOT (NEW.state <> 'stopped' AND NEW.resume_state = '') THEN
    RAISE EXCEPTION 'run % goes on where it was stopped', OLD.id
      USING ERRCODE = 'restrict_violation';
  END IF;
  IF OLD.state = 'in_review' AND NEW.state = 'approved' THEN
    -- The last request counts: each review after a retry asks anew.
    IF NEW.author_id IS NULL OR NOT EXISTS (
      SELECT 1 FROM public.billing_approvaldecision d
      WHERE d.is_approved AND d.decided_by_id = NEW.approved_by_id AND d.approval_id = (
        SELECT max(a.id) FROM public.billing_approval a
        WHERE a.subject LIKE 'run:' || NEW.id || ':%' AND a.legal_entity_id = NEW.legal_entity_id))
    THEN
      RAISE EXCEPTION 'nobody has approved run %', OLD.id USING ERRCODE = 'check_violation';
    END IF;
  ELSIF NEW.approved_by_id IS DISTINCT FROM OLD.approved_by_id THEN
    RAISE EXCEPTION 'run % keeps who approved it', OLD.id USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER run_guard AFTER INSERT OR UPDATE OR DELETE ON billing_invoicerun
  FOR EACH ROW EXECUTE FUNCTION billing_run_guard();
ALTER TABLE billing_invoicerun ENABLE ALWAYS TRIGGER run_guard;

-- The customers of a run are listed once; none is dropped on the way.
CREATE FUNCTION billing_run_item_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF NOT public.billing_removing_demo() AND EXISTS (
    SELECT 1 FROM public.billing_invoicerun WHERE id = OLD.run_id AND state <> 'planned') THEN
    RAISE EXCEPTION 'run % has begun; its customers stay on it', OLD.run_id
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN OLD;
END $$;
CREATE TRIGGER run_item_guard BEFORE DELETE ON billing_runitem
  FOR EACH ROW EXECUTE FUNCTION billing_run_item_guard();
ALTER TABLE billing_runitem ENABLE ALWAYS TRIGGER run_item_guard;

-- One customer per family of rows (L22): a child names its parent's customer. Where such a key
-- covers a plain one, the model says db_constraint=False: each key costs every row a look-up.
ALTER TABLE billing_invoice ADD CONSTRAINT invoice_of_customer UNIQUE (customer_id, id);
ALTER TABLE billing_subscription ADD CONSTRAINT subscription_of_customer UNIQUE (customer_id, id);
ALTER TABLE billing_project ADD CONSTRAINT project_of_customer UNIQUE (customer_id, id);
ALTER TABLE billing_payment ADD CONSTRAINT payment_of_customer UNIQUE (customer_id, id);
ALTER TABLE billing_usageevent ADD CONSTRAINT usage_of_customer UNIQUE (customer_id, id);
ALTER TABLE billing_invoicedocument ADD CONSTRAINT document_of_customer UNIQUE (customer_id, id);
ALTER TABLE billing_customer ADD CONSTRAINT customer_of_entity UNIQUE (legal_entity_id, id);
ALTER TABLE billing_numberseries ADD CONSTRAINT series_of_entity UNIQUE (legal_entity_id, id);

ALTER TABLE billing_subscription ADD CONSTRAINT subscription_project_same_customer
  FOREIGN KEY (customer_id, project_id) REFERENCES billing_project (customer_id, id);
ALTER TABLE billing_usageevent ADD CONSTRAINT usage_subscription_same_customer
  FOREIGN KEY (customer_id, subscription_id) REFERENCES billing_subscription (customer_id, id);
ALTER TABLE billing_usageevent ADD CONSTRAINT usage_project_same_customer
  FOREIGN KEY (customer_id, project_id) REFERENCES billing_project (customer_id, id);
ALTER TABLE billing_charge ADD CONSTRAINT charge_subscription_same_customer
  FOREIGN KEY (customer_id, subscription_id) REFERENCES billing_subscription (customer_id, id);
ALTER TABLE billing_charge ADD CONSTRAINT charge_usage_same_customer
  FOREIGN KEY (customer_id, usage_event_id) REFERENCES billing_usageevent (customer_id, id);
ALTER TABLE billing_invoice ADD CONSTRAINT invoice_customer_same_entity
  FOREIGN KEY (legal_entity_id, customer_id) REFERENCES billing_customer (legal_entity_id, id);
ALTER TABLE billing_invoice ADD CONSTRAINT invoice_series_same_entity
  FOREIGN KEY (legal_entity_id, series_id) REFERENCES billing_numberseries (legal_entity_id, id);
ALTER TABLE billing_invoiceline ADD CONSTRAINT line_invoice_same_customer
  FOREIGN KEY (customer_id, invoice_id) REFERENCES billing_invoice (customer_id, id);
ALTER TABLE billing_invoiceline ADD CONSTRAINT line_subscription_same_customer
  FOREIGN KEY (customer_id, subscription_id) REFERENCES billing_subscription (customer_id, id);
ALTER TABLE billing_invoicebalance ADD CONSTRAINT balance_invoice_same_customer
  FOREIGN KEY (customer_id, invoice_id) REFERENCES billing_invoice (customer_id, id);
ALTER TABLE billing_invoicedocument ADD CONSTRAINT document_invoice_same_customer
  FOREIGN KEY (customer_id, invoice_id) REFERENCES billing_invoice (customer_id, id);
ALTER TABLE billing_billedperiod ADD CONSTRAINT period_subscription_same_customer
  FOREIGN KEY (customer_id, subscription_id) REFERENCES billing_subscription (customer_id, id);
ALTER TABLE billing_billedperiod ADD CONSTRAINT period_invoice_same_customer
  FOREIGN KEY (customer_id, invoice_id) REFERENCES billing_invoice (customer_id, id);
ALTER TABLE billing_payment ADD CONSTRAINT payment_customer_same_entity
  FOREIGN KEY (legal_entity_id, customer_id) REFERENCES billing_customer (legal_entity_id, id);
ALTER TABLE billing_allocation ADD CONSTRAINT allocation_payment_same_customer
  FOREIGN KEY (customer_id, payment_id) REFERENCES billing_payment (customer_id, id);
ALTER TABLE billing_allocation ADD CONSTRAINT allocation_invoice_same_customer
  FOREIGN KEY (customer_id, invoice_id) REFERENCES billing_invoice (customer_id, id);
ALTER TABLE billing_runitem ADD CONSTRAINT run_item_invoice_same_customer
  FOREIGN KEY (customer_id, invoice_id) REFERENCES billing_invoice (customer_id, id);
ALTER TABLE billing_charge ADD CONSTRAINT charge_entry_same_customer
  FOREIGN KEY (customer_id, entry_id) REFERENCES billing_ledgerentry (customer_id, id);
ALTER TABLE billing_documentaccess ADD CONSTRAINT access_document_same_customer
  FOREIGN KEY (customer_id, document_id) REFERENCES billing_invoicedocument (customer_id, id);
ALTER TABLE billing_journalentry ADD CONSTRAINT entry_customer_same_entity
  FOREIGN KEY (legal_entity_id, customer_id) REFERENCES billing_customer (legal_entity_id, id);
ALTER TABLE billing_journalentry ADD CONSTRAINT entry_invoice_same_customer
  FOREIGN KEY (customer_id, invoice_id) REFERENCES billing_invoice (customer_id, id);
ALTER TABLE billing_journalentry ADD CONSTRAINT entry_payment_same_customer
  FOREIGN KEY (customer_id, payment_id) REFERENCES billing_payment (customer_id, id);
ALTER TABLE billing_approval ADD CONSTRAINT approval_customer_same_entity
  FOREIGN KEY (legal_entity_id, customer_id) REFERENCES billing_customer (legal_entity_id, id);
