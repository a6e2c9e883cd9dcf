-- The credit ledger's doors. Each locks the customer's balance row first and then reads with a
-- fresh snapshot; under the lock it brings the customer up to `at` and judges. Doors run as the
-- owner of the tables (SECURITY DEFINER); the application role may execute them and read, no more.
--
-- Refusals carry their own SQLSTATE and a JSON detail:
--   KT001 not enough credit   KT002 key used for another request   KT003 the state forbids it
--   KT004 no such row of this customer                             22023 an argument is not valid

-- ── Shape that Django does not write ─────────────────────────────────────────────────────────
ALTER TABLE billing_creditbalance SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE billing_creditgrant SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE billing_hold SET (fillfactor = 80);

-- Foreign keys over (customer, id): no row points into another customer (L22). The customer is
-- reached through the balance row, whose lock the door holds already.
ALTER TABLE billing_creditgrant
  ADD CONSTRAINT grant_balance FOREIGN KEY (customer_id) REFERENCES billing_creditbalance (customer_id),
  ADD CONSTRAINT grant_same_entity FOREIGN KEY (legal_entity_id, customer_id)
    REFERENCES billing_customer (legal_entity_id, id),
  ADD CONSTRAINT grant_subscription_same_customer FOREIGN KEY (customer_id, subscription_id)
    REFERENCES billing_subscription (customer_id, id),
  ADD CONSTRAINT grant_parent_same_customer FOREIGN KEY (customer_id, parent_id)
    REFERENCES billing_creditgrant (customer_id, id);
ALTER TABLE billing_hold
  ADD CONSTRAINT hold_balance FOREIGN KEY (customer_id) REFERENCES billing_creditbalance (customer_id),
  ADD CONSTRAINT hold_project_same_customer FOREIGN KEY (customer_id, project_id)
    REFERENCES billing_project (customer_id, id),
  ADD CONSTRAINT hold_subscription_same_customer FOREIGN KEY (customer_id, subscription_id)
    REFERENCES billing_subscription (customer_id, id);
ALTER TABLE billing_ledgerentry
  ADD CONSTRAINT entry_balance FOREIGN KEY (customer_id) REFERENCES billing_creditbalance (customer_id),
  ADD CONSTRAINT entry_project_same_customer FOREIGN KEY (customer_id, project_id)
    REFERENCES billing_project (customer_id, id),
  ADD CONSTRAINT entry_subscription_same_customer FOREIGN KEY (customer_id, subscription_id)
    REFERENCES billing_subscription (customer_id, id),
  ADD CONSTRAINT entry_grant_same_customer FOREIGN KEY (customer_id, grant_id)
    REFERENCES billing_creditgrant (customer_id, id),
  ADD CONSTRAINT entry_hold_same_customer FOREIGN KEY (customer_id, hold_id)
    REFERENCES billing_hold (customer_id, id),
  ADD CONSTRAINT entry_cause_same_customer FOREIGN KEY (customer_id, cause_id)
    REFERENCES billing_ledgerentry (customer_id, id);
ALTER TABLE billing_ledgerpart
  ADD CONSTRAINT part_entry_same_customer FOREIGN KEY (customer_id, entry_id)
    REFERENCES billing_ledgerentry (customer_id, id),
  ADD CONSTRAINT part_grant_same_customer FOREIGN KEY (customer_id, grant_id)
    REFERENCES billing_creditgrant (customer_id, id);
ALTER TABLE billing_ledgerkey
  ADD CONSTRAINT key_entry_same_customer FOREIGN KEY (customer_id, entry_id)
    REFERENCES billing_ledgerentry (customer_id, id),
  ADD CONSTRAINT key_hold_same_customer FOREIGN KEY (customer_id, hold_id)
    REFERENCES billing_hold (customer_id, id);

-- What a row must be, whoever writes it (L3, L4, L23). PostgreSQL parses CHECK expressions anew for
-- every statement, which cost more than the insert itself: so each hot table has one CHECK, and it
-- calls one function, which a session compiles once. NaN sorts above every number, so the upper
-- bounds refuse it too.
CREATE FUNCTION ledger_balance_is_sound(available numeric, held numeric, debt numeric,
  debt_limit numeric, next_seq bigint) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN available >= 0 AND available < 1e14 AND held >= 0 AND held < 1e14
     AND debt >= 0 AND debt <= debt_limit AND debt_limit < 1e14 AND next_seq >= 1;
END $$;
ALTER TABLE billing_creditbalance ADD CONSTRAINT balance_is_sound
  CHECK (ledger_balance_is_sound(available, held, debt, debt_limit, next_seq));

CREATE FUNCTION ledger_grant_is_sound(amount numeric, remaining numeric, held numeric,
  is_open boolean, effective_at timestamptz, expires_at timestamptz, cost_total numeric,
  currency text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN 0 <= held AND held <= remaining AND remaining <= amount AND amount > 0 AND amount < 1e14
     AND is_open = (remaining > 0) AND (expires_at IS NULL OR expires_at > effective_at)
     AND cost_total >= 0 AND cost_total < 1e15 AND (cost_total = 0 OR currency <> '');
END $$;
ALTER TABLE billing_creditgrant ADD CONSTRAINT grant_is_sound
  CHECK (ledger_grant_is_sound(amount, remaining, held, is_open, effective_at, expires_at,
                               cost_total, currency));

CREATE FUNCTION ledger_entry_is_sound(kind text, source text, target text, amount numeric,
  actor text, request_id text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN amount > 0 AND amount < 1e14 AND actor <> '' AND request_id <> ''
     AND kind || ':' || source || '>' || target IN (
       'spend:available>consumed', 'grant:issued>available', 'hold:available>held',
       'settle:held>consumed', 'release:held>available', 'expire:available>expired',
       'void:available>voided', 'debt:debt>consumed', 'repay:available>debt',
       'reverse:consumed>available', 'reverse:expired>available', 'reverse:consumed>debt');
END $$;
ALTER TABLE billing_ledgerentry ADD CONSTRAINT entry_is_sound
  CHECK (ledger_entry_is_sound(kind, source, target, amount, actor, request_id));

ALTER TABLE billing_ledgerpart ADD CONSTRAINT part_is_positive
  CHECK (amount > 0 AND amount < 1e14);

-- ── Guards: entries, parts and keys never change; terms of grants and holds never change ─────
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['billing_ledgerentry', 'billing_ledgerpart', 'billing_ledgerkey'] LOOP
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I
                    FOR EACH ROW EXECUTE FUNCTION billing_append_only()', name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER append_only', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['billing_creditbalance', 'billing_creditgrant', 'billing_hold'] LOOP
    EXECUTE format('CREATE TRIGGER kept BEFORE DELETE ON %I
                    FOR EACH ROW EXECUTE FUNCTION billing_append_only()', name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER kept', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['billing_ledgerentry', 'billing_ledgerpart', 'billing_ledgerkey',
                              'billing_creditbalance', 'billing_creditgrant', 'billing_hold'] LOOP
    EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I
                    FOR EACH STATEMENT EXECUTE FUNCTION billing_no_truncate()', name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER no_truncate', name);
  END LOOP;
END $$;

-- A statement trigger on named columns costs the doors nothing: they never set these.
CREATE FUNCTION billing_terms_are_frozen() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'the terms of a row of % are never changed', TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER terms_frozen BEFORE UPDATE OF id, customer_id, legal_entity_id, kind, amount, priority,
  effective_at, expires_at, created_at, meter_ids, project_ids, subscription_id, parent_id,
  sale_line_id, cost_total, currency, tax_treatment ON billing_creditgrant
  FOR EACH STATEMENT EXECUTE FUNCTION billing_terms_are_frozen();
ALTER TABLE billing_creditgrant ENABLE ALWAYS TRIGGER terms_frozen;
CREATE TRIGGER terms_frozen BEFORE UPDATE OF id, customer_id, amount, covered, held_at, expires_at,
  overage_policy, debt_limit, meter_id, project_id, subscription_id ON billing_hold
  FOR EACH STATEMENT EXECUTE FUNCTION billing_terms_are_frozen();
ALTER TABLE billing_hold ENABLE ALWAYS TRIGGER terms_frozen;
CREATE TRIGGER terms_frozen BEFORE UPDATE OF customer_id ON billing_creditbalance
  FOR EACH STATEMENT EXECUTE FUNCTION billing_terms_are_frozen();
ALTER TABLE billing_creditbalance ENABLE ALWAYS TRIGGER terms_frozen;

-- Entries name a meter without a foreign key (all customers would share its row lock), so a meter
-- that credits were used for is kept by this trigger.
CREATE FUNCTION billing_meter_is_kept() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM billing_ledgerentry WHERE meter_id = OLD.id)
     OR EXISTS (SELECT 1 FROM billing_hold WHERE meter_id = OLD.id) THEN
    RAISE EXCEPTION 'meter % has ledger entries and is kept', OLD.code
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN OLD;
END $$;
CREATE TRIGGER meter_is_kept BEFORE DELETE ON billing_meter
  FOR EACH ROW EXECUTE FUNCTION billing_meter_is_kept();
ALTER TABLE billing_meter ENABLE ALWAYS TRIGGER meter_is_kept;

-- ── Behind the doors ─────────────────────────────────────────────────────────────────────────
-- These run inside a door, under its lock and its search path; nobody else may execute them.

-- Take the customer's lock. Every statement after this one sees what the lock waited for.
CREATE FUNCTION ledger_lock(p_customer bigint) RETURNS billing_creditbalance
LANGUAGE plpgsql AS $$
DECLARE
  b billing_creditbalance;
BEGIN
  SELECT * INTO b FROM billing_creditbalance WHERE customer_id = p_customer FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    INSERT INTO billing_creditbalance (customer_id) VALUES (p_customer) ON CONFLICT DO NOTHING;
    SELECT * INTO b FROM billing_creditbalance WHERE customer_id = p_customer FOR NO KEY UPDATE;
  END IF;
  RETURN b;
END $$;

-- The first result of a key, or a row of nulls. The hash covers what was asked for; `at`, actor,
-- reason and request id may differ between the tries of one request.
CREATE FUNCTION ledger_replay(p_customer bigint, p_key text, p_hash bytea) RETURNS billing_ledgerkey
LANGUAGE plpgsql AS $$
DECLARE
  k billing_ledgerkey;
BEGIN
  SELECT * INTO k FROM billing_ledgerkey WHERE customer_id = p_customer AND key = p_key;
  IF k.request_hash <> p_hash THEN
    RAISE EXCEPTION 'key % was used before for a different request', p_key USING ERRCODE = 'KT002';
  END IF;
  RETURN k;
END $$;

-- Every door that remembers a key has also moved or touched the balance row, so that under
-- REPEATABLE READ a second use of the key fails at the lock (40001), never here.
CREATE FUNCTION ledger_remember(p_customer bigint, p_key text, p_door text, p_hash bytea,
  p_entry bigint, p_hold bigint, p_covered numeric, p_overage numeric, p_debt numeric)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF p_entry IS NULL THEN
    UPDATE billing_creditbalance SET next_seq = next_seq WHERE customer_id = p_customer;
  END IF;
  INSERT INTO billing_ledgerkey
    (customer_id, key, door, request_hash, entry_id, hold_id, covered, overage, debt, recorded_at)
  VALUES (p_customer, p_key, p_door, p_hash, p_entry, p_hold, p_covered, p_overage, p_debt,
          clock_timestamp());
END $$;

CREATE FUNCTION ledger_check_amount(p_amount numeric) RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
  -- NaN sorts above every number, so the upper bound refuses it too.
  IF p_amount IS NULL OR p_amount <= 0 OR p_amount >= 1e14 OR p_amount <> round(p_amount, 6) THEN
    RAISE EXCEPTION 'credits must be positive, finite and of at most six decimals: %', p_amount
      USING ERRCODE = '22023';
  END IF;
  RETURN p_amount;
END $$;

-- Append one entry with its parts and move the balance with it. A part without a grant is debt.
CREATE FUNCTION ledger_post(p_customer bigint, p_kind text, p_source text, p_target text,
  p_amount numeric, p_at timestamptz, p_booked timestamptz, p_grants bigint[], p_amounts numeric[],
  p_meter bigint, p_project bigint, p_subscription bigint, p_grant bigint, p_hold bigint,
  p_cause bigint, p_actor text, p_reason text, p_request text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  v_seq bigint;
  v_entry bigint;
BEGIN
  UPDATE billing_creditbalance
     SET available = available + CASE 'available' WHEN p_target THEN p_amount
                                                  WHEN p_source THEN -p_amount ELSE 0 END,
         held = held + CASE 'held' WHEN p_target THEN p_amount
                                   WHEN p_source THEN -p_amount ELSE 0 END,
         debt = debt + CASE 'debt' WHEN p_source THEN p_amount
                                   WHEN p_target THEN -p_amount ELSE 0 END,
         next_seq = next_seq + 1,
         last_at = greatest(last_at, p_at)
   WHERE customer_id = p_customer
  RETURNING next_seq - 1 INTO v_seq;
  INSERT INTO billing_ledgerentry
    (customer_id, seq, kind, source, target, amount, occurred_at, recorded_at, booked_at, meter_id,
     project_id, subscription_id, grant_id, hold_id, cause_id, actor, reason, request_id)
  VALUES (p_customer, v_seq, p_kind, p_source, p_target, p_amount, p_at, clock_timestamp(), p_booked,
          p_meter, p_project, p_subscription, p_grant, p_hold, p_cause, p_actor, p_reason, p_request)
  RETURNING id INTO v_entry;
  IF cardinality(p_amounts) = 1 THEN
    INSERT INTO billing_ledgerpart (customer_id, entry_id, grant_id, amount)
    VALUES (p_customer, v_entry, p_grants[1], p_amount);
  ELSE
    INSERT INTO billing_ledgerpart (customer_id, entry_id, grant_id, amount)
    SELECT p_customer, v_entry, part.grant_id, part.amount
      FROM unnest(p_grants, p_amounts) WITH ORDINALITY AS part (grant_id, amount, place)
     ORDER BY place;
  END IF;
  RETURN v_entry;
END $$;

-- What came back to a grant whose life is over ends at once: it expires, or is voided. Over is also
-- what an earlier door booked as expired, although `p_at` lies before that. A grant that lives on
-- falls due again.
CREATE FUNCTION ledger_end_returned(p_customer bigint, p_cause bigint, p_grants bigint[],
  p_amounts numeric[], p_at timestamptz, p_booked timestamptz, p_request text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  back record;
  swept timestamptz := (SELECT swept_at FROM billing_creditbalance WHERE customer_id = p_customer);
BEGIN
  FOR back IN
    SELECT g.id, lot.amount, g.voided_at IS NOT NULL AS voided, g.expires_at
      FROM unnest(p_grants, p_amounts) WITH ORDINALITY AS lot (grant_id, amount, place)
      JOIN billing_creditgrant g ON g.id = lot.grant_id
     WHERE g.voided_at IS NOT NULL OR g.expires_at <= greatest(p_at, swept)
     ORDER BY lot.place
  LOOP
    UPDATE billing_creditgrant
       SET remaining = remaining - back.amount, is_open = remaining > back.amount
     WHERE id = back.id;
    IF back.voided THEN
      PERFORM ledger_post(p_customer, 'void', 'available', 'voided', back.amount, p_at, p_booked,
        ARRAY[back.id], ARRAY[back.amount], NULL, NULL, NULL, back.id, NULL, p_cause, 'clock',
        'returned to a voided grant', p_request);
    ELSE
      PERFORM ledger_post(p_customer, 'expire', 'available', 'expired', back.amount,
        greatest(p_at, back.expires_at), p_booked, ARRAY[back.id], ARRAY[back.amount], NULL, NULL,
        NULL, back.id, NULL, p_cause, 'clock', 'returned after its expiry', p_request);
    END IF;
  END LOOP;
  UPDATE billing_creditbalance b SET due_at = least(b.due_at, again.due_at)
    FROM (SELECT min(g.expires_at) AS due_at FROM billing_creditgrant g
           WHERE g.id = ANY (p_grants) AND g.remaining > g.held) again
   WHERE b.customer_id = p_customer AND again.due_at IS NOT NULL
     AND (b.due_at IS NULL OR again.due_at < b.due_at);
END $$;

-- Spend `p_spent` of a hold's pins in their order and give the rest back; the hold is over.
CREATE FUNCTION ledger_resolve(h billing_hold, p_state text, p_spent numeric, p_at timestamptz,
  p_booked timestamptz, p_actor text, p_reason text, p_request text,
  OUT settle_entry bigint, OUT release_entry bigint)
LANGUAGE plpgsql AS $$
DECLARE
  pin record;
  take numeric;
  short numeric := p_spent;
  spent_grants bigint[] := '{}';
  spent_amounts numeric[] := '{}';
  back_grants bigint[] := '{}';
  back_amounts numeric[] := '{}';
BEGIN
  FOR pin IN
    SELECT p.grant_id, p.amount
      FROM billing_ledgerentry e JOIN billing_ledgerpart p ON p.entry_id = e.id
     WHERE e.hold_id = h.id AND e.kind = 'hold' ORDER BY p.id
  LOOP
    take := least(short, pin.amount);
    UPDATE billing_creditgrant
       SET held = held - pin.amount, remaining = remaining - take, is_open = remaining > take
     WHERE id = pin.grant_id;
    IF take > 0 THEN
      spent_grants := spent_grants || pin.grant_id;
      spent_amounts := spent_amounts || take;
    END IF;
    IF take < pin.amount THEN
      back_grants := back_grants || pin.grant_id;
      back_amounts := back_amounts || (pin.amount - take);
    END IF;
    short := short - take;
  END LOOP;
  UPDATE billing_hold SET state = p_state, is_open = false, resolved_at = p_at WHERE id = h.id;
  IF p_spent > 0 THEN
    settle_entry := ledger_post(h.customer_id, 'settle', 'held', 'consumed', p_spent, p_at, p_booked,
      spent_grants, spent_amounts, h.meter_id, h.project_id, h.subscription_id, NULL, h.id, NULL,
      p_actor, p_reason, p_request);
  END IF;
  IF h.covered > p_spent THEN
    release_entry := ledger_post(h.customer_id, 'release', 'held', 'available', h.covered - p_spent,
      p_at, p_booked, back_grants, back_amounts, h.meter_id, h.project_id, h.subscription_id, NULL,
      h.id, settle_entry, p_actor, p_reason, p_request);
    PERFORM ledger_end_returned(h.customer_id, release_entry, back_grants, back_amounts, p_at,
      p_booked, p_request);
  END IF;
END $$;

-- Bring a customer up to `p_at`, in the order things were due: at one instant grants expire first,
-- then holds lapse. An expiry at a period's exclusive end is booked inside that period.
-- Returns the balance row as it is afterwards.
CREATE FUNCTION ledger_catch_up(p_customer bigint, p_at timestamptz, p_request text)
RETURNS billing_creditbalance LANGUAGE plpgsql AS $$
DECLARE
  due record;
  h billing_hold;
  b billing_creditbalance;
  free numeric;
  swept timestamptz;
BEGIN
  FOR due IN
    SELECT g.expires_at AS instant, 1 AS place, g.id FROM billing_creditgrant g
     WHERE g.customer_id = p_customer AND g.is_open AND g.expires_at <= p_at
    UNION ALL
    SELECT o.expires_at, 2, o.id FROM billing_hold o
     WHERE o.customer_id = p_customer AND o.is_open AND o.expires_at <= p_at
    ORDER BY 1, 2, 3
  LOOP
    IF due.place = 1 THEN
      SELECT remaining - held INTO free FROM billing_creditgrant WHERE id = due.id;
      CONTINUE WHEN free = 0;
      UPDATE billing_creditgrant SET remaining = held, is_open = held > 0 WHERE id = due.id;
      PERFORM ledger_post(p_customer, 'expire', 'available', 'expired', free, due.instant,
        due.instant - interval '1 microsecond', ARRAY[due.id], ARRAY[free], NULL, NULL, NULL, due.id,
        NULL, NULL, 'clock', 'expired', p_request);
      swept := due.instant;
    ELSE
      SELECT * INTO h FROM billing_hold WHERE id = due.id;
      PERFORM ledger_resolve(h, 'lapsed', 0, due.instant, due.instant, 'clock',
        'time limit reached', p_request);
    END IF;
  END LOOP;
  UPDATE billing_creditbalance
     SET swept_at = greatest(swept_at, swept),
         due_at = (
           SELECT min(instant) FROM (
             SELECT g.expires_at AS instant FROM billing_creditgrant g
              WHERE g.customer_id = p_customer AND g.is_open AND g.expires_at > p_at
             UNION ALL
             SELECT o.expires_at FROM billing_hold o WHERE o.customer_id = p_customer AND o.is_open
           ) coming)
   WHERE customer_id = p_customer
  RETURNING * INTO b;
  RETURN b;
END $$;

-- Which grants pay `p_amount` at `p_at`, in burn order; nothing is written. Late use may also take
-- what has expired since, because it was there at that instant: `lapsed` says how much of each
-- take must be brought back first.
CREATE FUNCTION ledger_pick(p_customer bigint, p_amount numeric, p_at timestamptz, p_meter bigint,
  p_project bigint, p_late boolean, OUT grants bigint[], OUT takes numeric[], OUT lapsed numeric[],
  OUT short numeric)
LANGUAGE plpgsql AS $$
DECLARE
  g record;
  take numeric;
BEGIN
  short := p_amount;
  IF NOT p_late THEN
    FOR g IN
      SELECT id, remaining - held AS free FROM billing_creditgrant
       WHERE customer_id = p_customer AND is_open AND remaining > held
         AND effective_at <= p_at AND (expires_at IS NULL OR expires_at > p_at)
         AND (meter_ids IS NULL OR p_meter = ANY (meter_ids))
         AND (project_ids IS NULL OR p_project = ANY (project_ids))
       ORDER BY priority, expires_at NULLS LAST, kind = 'purchased', created_at, id
    LOOP
      take := least(short, g.free);
      grants := grants || g.id;
      takes := takes || take;
      short := short - take;
      EXIT WHEN short = 0;
    END LOOP;
    RETURN;
  END IF;
  FOR g IN
    SELECT c.id, c.remaining - c.held AS free, coalesce(gone.amount, 0) AS gone
      FROM billing_creditgrant c
      LEFT JOIN LATERAL (
        SELECT sum(CASE e.kind WHEN 'expire' THEN e.amount ELSE -e.amount END) AS amount
          FROM billing_ledgerentry e
         WHERE e.grant_id = c.id
           AND (e.kind = 'expire' OR (e.kind = 'reverse' AND e.source = 'expired'))
      ) gone ON c.expires_at IS NOT NULL
     WHERE c.customer_id = p_customer
       AND c.effective_at <= p_at AND (c.expires_at IS NULL OR c.expires_at > p_at)
       AND (c.voided_at IS NULL OR c.voided_at > p_at)
       AND (c.meter_ids IS NULL OR p_meter = ANY (c.meter_ids))
       AND (c.project_ids IS NULL OR p_project = ANY (c.project_ids))
     ORDER BY c.priority, c.expires_at NULLS LAST, c.kind = 'purchased', c.created_at, c.id
  LOOP
    EXIT WHEN short = 0;
    take := least(short, g.free + g.gone);
    CONTINUE WHEN take = 0;
    grants := grants || g.id;
    takes := takes || take;
    lapsed := lapsed || greatest(take - g.free, 0);
    short := short - take;
  END LOOP;
END $$;

-- Bring back what late use needs of grants that have expired since.
CREATE FUNCTION ledger_reopen(p_customer bigint, p_grants bigint[], p_lapsed numeric[],
  p_at timestamptz, p_booked timestamptz, p_actor text, p_request text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  back record;
BEGIN
  FOR back IN
    SELECT lot.grant_id, lot.amount, (
             SELECT max(e.id) FROM billing_ledgerentry e
              WHERE e.grant_id = lot.grant_id AND e.kind = 'expire') AS cause
      FROM unnest(p_grants, p_lapsed) WITH ORDINALITY AS lot (grant_id, amount, place)
     WHERE lot.amount > 0 ORDER BY lot.place
  LOOP
    UPDATE billing_creditgrant SET remaining = remaining + back.amount, is_open = true
     WHERE id = back.grant_id;
    PERFORM ledger_post(p_customer, 'reverse', 'expired', 'available', back.amount, p_at, p_booked,
      ARRAY[back.grant_id], ARRAY[back.amount], NULL, NULL, NULL, back.grant_id, NULL, back.cause,
      p_actor, 'brought back for late use', p_request);
  END LOOP;
END $$;

-- Pay for one use under the lock. It says `refused` instead of raising, so that a batch goes on;
-- what it refuses it has not touched.
CREATE FUNCTION ledger_pay(b billing_creditbalance, p_amount numeric, p_at timestamptz,
  p_booked timestamptz, p_meter bigint, p_project bigint, p_subscription bigint, p_policy text,
  p_debt_limit numeric, p_hold bigint, p_cause bigint, p_actor text, p_reason text, p_request text,
  OUT entry bigint, OUT covered numeric, OUT overage numeric, OUT owed numeric, OUT refused boolean)
LANGUAGE plpgsql AS $$
DECLARE
  pick record;
  debt_entry bigint;
BEGIN
  refused := false;
  overage := 0;
  owed := 0;
  pick := ledger_pick(b.customer_id, p_amount, p_at, p_meter, p_project,
    b.swept_at IS NOT NULL AND p_at < b.swept_at);
  covered := p_amount - pick.short;
  IF pick.short > 0 THEN
    IF p_policy = 'invoice' THEN
      overage := pick.short;
    ELSIF p_policy = 'debt' AND b.debt + pick.short <= p_debt_limit THEN
      owed := pick.short;
    ELSE
      refused := true;
      RETURN;
    END IF;
  END IF;
  IF covered > 0 THEN
    IF pick.lapsed IS NOT NULL THEN
      PERFORM ledger_reopen(b.customer_id, pick.grants, pick.lapsed, p_at, p_booked, p_actor,
        p_request);
    END IF;
    IF cardinality(pick.grants) = 1 THEN
      UPDATE billing_creditgrant SET remaining = remaining - covered, is_open = remaining > covered
       WHERE id = pick.grants[1];
    ELSE
      UPDATE billing_creditgrant g
         SET remaining = g.remaining - lot.amount, is_open = g.remaining > lot.amount
        FROM unnest(pick.grants, pick.takes) AS lot (grant_id, amount)
       WHERE g.id = lot.grant_id;
    END IF;
    entry := ledger_post(b.customer_id, 'spend', 'available', 'consumed', covered, p_at, p_booked,
      pick.grants, pick.takes, p_meter, p_project, p_subscription, NULL, p_hold, p_cause, p_actor,
      p_reason, p_request);
  END IF;
  IF owed > 0 THEN
    UPDATE billing_creditbalance SET debt_limit = p_debt_limit WHERE customer_id = b.customer_id;
    debt_entry := ledger_post(b.customer_id, 'debt', 'debt', 'consumed', owed, p_at, p_booked,
      ARRAY[NULL]::bigint[], ARRAY[owed], p_meter, p_project, p_subscription, NULL, p_hold,
      coalesce(entry, p_cause), p_actor, p_reason, p_request);
    entry := coalesce(entry, debt_entry);
  END IF;
END $$;

-- Refuse for want of credits, with the figures the operator needs.
CREATE FUNCTION ledger_refuse(p_customer bigint, p_needed numeric, p_at timestamptz, p_meter bigint,
  p_project bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  free numeric;
BEGIN
  SELECT coalesce(sum(remaining - held), 0) INTO free FROM billing_creditgrant
   WHERE customer_id = p_customer AND is_open
     AND effective_at <= p_at AND (expires_at IS NULL OR expires_at > p_at)
     AND (meter_ids IS NULL OR p_meter = ANY (meter_ids))
     AND (project_ids IS NULL OR p_project = ANY (project_ids));
  RAISE EXCEPTION 'needs % credits, only % are available', p_needed, free
    USING ERRCODE = 'KT001', DETAIL = jsonb_build_object('customer_id', p_customer,
      'needed', p_needed::text, 'available', free::text)::text;
END $$;

CREATE FUNCTION ledger_spend_hash(p_amount numeric, p_meter bigint, p_project bigint,
  p_subscription bigint, p_policy text) RETURNS bytea LANGUAGE plpgsql AS $$
BEGIN
  RETURN sha256(convert_to(format('spend|%s|%s|%s|%s|%s', trim_scale(p_amount), p_meter, p_project,
    p_subscription, p_policy), 'UTF8'));
END $$;

-- ── The doors ────────────────────────────────────────────────────────────────────────────────

-- Grant a lot of credits. A purchased grant without scope repays debt first.
CREATE FUNCTION ledger_grant(p_customer bigint, p_key text, p_kind text, p_amount numeric,
  p_at timestamptz, p_effective_at timestamptz, p_expires_at timestamptz, p_priority integer,
  p_label text, p_meter_ids bigint[], p_project_ids bigint[], p_subscription bigint,
  p_parent bigint, p_sale_line bigint, p_cost_total numeric, p_currency text, p_tax_treatment text,
  p_booked_at timestamptz, p_actor text, p_reason text, p_request_id text,
  OUT granted bigint, OUT entry bigint, OUT repaid numeric, OUT replayed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  b billing_creditbalance;
  k billing_ledgerkey;
  booked timestamptz := coalesce(p_booked_at, p_at);
  starts timestamptz := coalesce(p_effective_at, p_at);
  hash bytea := sha256(convert_to(format('grant|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s', p_kind,
    trim_scale(p_amount), extract(epoch FROM p_effective_at), extract(epoch FROM p_expires_at),
    p_priority, p_label, p_meter_ids, p_project_ids, p_subscription, p_parent, p_sale_line,
    trim_scale(p_cost_total), p_currency, p_tax_treatment), 'UTF8'));
BEGIN
  PERFORM ledger_check_amount(p_amount);
  b := ledger_lock(p_customer);
  k := ledger_replay(p_customer, p_key, hash);
  IF k.key IS NOT NULL THEN
    SELECT e.grant_id INTO granted FROM billing_ledgerentry e WHERE e.id = k.entry_id;
    entry := k.entry_id;
    repaid := k.debt;
    replayed := true;
    RETURN;
  END IF;
  IF b.due_at <= p_at THEN
    b := ledger_catch_up(p_customer, p_at, p_request_id);
  END IF;
  INSERT INTO billing_creditgrant
    (customer_id, legal_entity_id, kind, label, amount, remaining, priority, effective_at, expires_at,
     created_at, recorded_at, meter_ids, project_ids, subscription_id, parent_id, sale_line_id,
     cost_total, currency, tax_treatment)
  SELECT c.id, c.legal_entity_id, p_kind, p_label, p_amount, p_amount, p_priority, starts,
         p_expires_at, p_at, clock_timestamp(), p_meter_ids, p_project_ids, p_subscription, p_parent,
         p_sale_line, p_cost_total, p_currency, p_tax_treatment
    FROM billing_customer c WHERE c.id = p_customer
  RETURNING id INTO granted;
  entry := ledger_post(p_customer, 'grant', 'issued', 'available', p_amount, p_at, booked,
    ARRAY[granted], ARRAY[p_amount], NULL, NULL, p_subscription, granted, NULL, NULL, p_actor,
    p_reason, p_request_id);
  repaid := 0;
  IF p_kind = 'purchased' AND b.debt > 0 AND p_meter_ids IS NULL AND p_project_ids IS NULL
     AND starts <= p_at AND (p_expires_at IS NULL OR p_expires_at > p_at) THEN
    repaid := least(b.debt, p_amount);
    UPDATE billing_creditgrant SET remaining = remaining - repaid, is_open = remaining > repaid
     WHERE id = granted;
    PERFORM ledger_post(p_customer, 'repay', 'available', 'debt', repaid, p_at, booked,
      ARRAY[granted], ARRAY[repaid], NULL, NULL, p_subscription, granted, NULL, entry, p_actor,
      'debt repaid', p_request_id);
  END IF;
  IF p_expires_at <= p_at THEN
    PERFORM ledger_catch_up(p_customer, p_at, p_request_id);
  ELSIF p_expires_at IS NOT NULL AND (b.due_at IS NULL OR p_expires_at < b.due_at) THEN
    UPDATE billing_creditbalance SET due_at = p_expires_at WHERE customer_id = p_customer;
  END IF;
  PERFORM ledger_remember(p_customer, p_key, 'grant', hash, entry, NULL, p_amount, 0, repaid);
  replayed := false;
END $$;

-- One use under the lock, from replay to key; `refused` says why nothing was written.
CREATE FUNCTION ledger_spend_row(b billing_creditbalance, p_key text, p_amount numeric,
  p_at timestamptz, p_meter bigint, p_project bigint, p_subscription bigint, p_policy text,
  p_debt_limit numeric, p_booked_at timestamptz, p_actor text, p_reason text, p_request_id text,
  OUT entry bigint, OUT covered numeric, OUT overage numeric, OUT owed numeric,
  OUT replayed boolean, OUT refused text)
LANGUAGE plpgsql AS $$
DECLARE
  k billing_ledgerkey;
  paid record;
  hash bytea := ledger_spend_hash(p_amount, p_meter, p_project, p_subscription, p_policy);
BEGIN
  SELECT * INTO k FROM billing_ledgerkey WHERE customer_id = b.customer_id AND key = p_key;
  IF FOUND THEN
    IF k.request_hash <> hash THEN
      refused := 'idempotency_conflict';
      RETURN;
    END IF;
    entry := k.entry_id;
    covered := k.covered;
    overage := k.overage;
    owed := k.debt;
    replayed := true;
    RETURN;
  END IF;
  IF b.due_at <= p_at THEN
    b := ledger_catch_up(b.customer_id, p_at, p_request_id);
  END IF;
  paid := ledger_pay(b, p_amount, p_at, coalesce(p_booked_at, p_at), p_meter, p_project,
    p_subscription, p_policy, p_debt_limit, NULL, NULL, p_actor, p_reason, p_request_id);
  IF paid.refused THEN
    refused := 'insufficient_credit';
    RETURN;
  END IF;
  entry := paid.entry;
  covered := paid.covered;
  overage := paid.overage;
  owed := paid.owed;
  replayed := false;
  IF entry IS NULL THEN
    PERFORM ledger_remember(b.customer_id, p_key, 'spend', hash, NULL, NULL, 0, overage, 0);
    RETURN;
  END IF;
  -- What ledger_remember does, without the price of a call on the hot path.
  INSERT INTO billing_ledgerkey
    (customer_id, key, door, request_hash, entry_id, covered, overage, debt, recorded_at)
  VALUES (b.customer_id, p_key, 'spend', hash, entry, covered, overage, owed, clock_timestamp());
END $$;

-- Pay for use. By policy the rest is refused (block), returned as overage (invoice) or owed (debt).
CREATE FUNCTION ledger_spend(p_customer bigint, p_key text, p_amount numeric, p_at timestamptz,
  p_meter bigint, p_project bigint, p_subscription bigint, p_policy text, p_debt_limit numeric,
  p_booked_at timestamptz, p_actor text, p_reason text, p_request_id text,
  OUT entry bigint, OUT covered numeric, OUT overage numeric, OUT owed numeric,
  OUT replayed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  done record;
  asked numeric := ledger_check_amount(p_amount);
BEGIN
  done := ledger_spend_row(ledger_lock(p_customer), p_key, asked, p_at, p_meter, p_project,
    p_subscription, p_policy, p_debt_limit, p_booked_at, p_actor, p_reason, p_request_id);
  IF done.refused = 'insufficient_credit' THEN
    PERFORM ledger_refuse(p_customer, p_amount, p_at, p_meter, p_project);
  ELSIF done.refused IS NOT NULL THEN
    PERFORM ledger_replay(p_customer, p_key, '');
  END IF;
  entry := done.entry;
  covered := done.covered;
  overage := done.overage;
  owed := done.owed;
  replayed := done.replayed;
END $$;

-- Pay for many uses at once; rows of one customer are applied in the order of the arrays, and the
-- outcome of each row is that of `ledger_spend`, except that a refusal is returned, not raised.
--
-- From 100 rows on, customers with nothing special are paid set-based: the running sum of what is
-- asked and the running sum of what the grants hold are two rulers laid side by side, and each
-- overlap is a part. Everything else goes row by row: keys seen before, grants or holds that end
-- or begin within the batch, late use, debt, mixed scopes, and customers with a refusal, because
-- a refused row must not refuse the smaller one after it.
--
-- The two statements that read the arrays are run by EXECUTE, so that they are planned for the
-- arrays at hand. (plan_cache_mode would plan every foreign key check of every row anew as well.)
CREATE FUNCTION ledger_spend_many(p_customers bigint[], p_keys text[], p_amounts numeric[],
  p_ats timestamptz[], p_meters bigint[], p_projects bigint[], p_subscriptions bigint[],
  p_policies text[], p_debt_limits numeric[], p_booked_ats timestamptz[], p_actor text,
  p_reason text, p_request_id text)
RETURNS TABLE (place bigint, entry bigint, covered numeric, overage numeric, owed numeric,
  replayed boolean, refused text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
  plain bigint[] := '{}';
  r record;
  b billing_creditbalance;
  done record;
BEGIN
  IF EXISTS (SELECT 1 FROM unnest(p_amounts) AS asked (amount)
             WHERE asked.amount IS NULL OR asked.amount <= 0 OR asked.amount >= 1e14
                OR asked.amount <> round(asked.amount, 6)) THEN
    RAISE EXCEPTION 'credits must be positive, finite and of at most six decimals'
      USING ERRCODE = '22023';
  END IF;
  INSERT INTO billing_creditbalance (customer_id)
  SELECT DISTINCT c.id FROM unnest(p_customers) AS c (id)
   WHERE NOT EXISTS (SELECT 1 FROM billing_creditbalance o WHERE o.customer_id = c.id)
   ORDER BY c.id
  ON CONFLICT DO NOTHING;
  PERFORM 1 FROM billing_creditbalance o WHERE o.customer_id = ANY (p_customers)
    ORDER BY o.customer_id FOR NO KEY UPDATE;

  IF cardinality(p_customers) >= 100 THEN
    EXECUTE $plan$
    SELECT coalesce(array_agg(asked.customer), '{}')
      FROM (
        SELECT i.customer, sum(i.amount) AS amount, min(i.at) AS first_at, max(i.at) AS last_at,
               count(*) AS rows, count(DISTINCT i.key) AS keys, max(i.meter) AS meter,
               max(i.project) AS project, max(i.policy) AS policy,
               count(DISTINCT (i.meter, i.project)) = 1 AS one_scope,
               min(i.policy) = max(i.policy) AS one_policy, count(k.key) AS known
          FROM unnest($1, $2, $3, $4, $5, $6, $7)
            AS i (customer, key, amount, at, meter, project, policy)
          LEFT JOIN billing_ledgerkey k ON k.customer_id = i.customer AND k.key = i.key
         GROUP BY i.customer
      ) asked
      JOIN billing_creditbalance o ON o.customer_id = asked.customer
      CROSS JOIN LATERAL (
        SELECT coalesce(sum(g.remaining - g.held) FILTER (
                 WHERE g.effective_at <= asked.first_at
                   AND (g.meter_ids IS NULL OR asked.meter = ANY (g.meter_ids))
                   AND (g.project_ids IS NULL OR asked.project = ANY (g.project_ids))), 0) AS free,
               coalesce(bool_or(g.effective_at > asked.first_at AND g.effective_at <= asked.last_at),
                        false) AS begins,
               coalesce(bool_or(g.meter_ids IS NOT NULL OR g.project_ids IS NOT NULL), false)
                 AS scoped
          FROM billing_creditgrant g
         WHERE g.customer_id = asked.customer AND g.is_open
           AND (g.expires_at IS NULL OR g.expires_at > asked.last_at)
      ) lots
     WHERE asked.known = 0 AND asked.keys = asked.rows AND asked.one_policy
       AND (asked.one_scope OR NOT lots.scoped) AND NOT lots.begins
       AND (o.due_at IS NULL OR o.due_at > asked.last_at)
       AND (o.swept_at IS NULL OR o.swept_at <= asked.first_at)
       AND (asked.amount <= lots.free OR asked.policy = 'invoice')
    $plan$ INTO plain
    USING p_customers, p_keys, p_amounts, p_ats, p_meters, p_projects, p_policies;
  END IF;

  IF cardinality(plain) > 0 THEN
    RETURN QUERY EXECUTE $pay$
    WITH lots AS MATERIALIZED (
      SELECT g.customer_id, g.id, g.remaining - g.held AS free,
             sum(g.remaining - g.held) OVER (
               PARTITION BY g.customer_id
               ORDER BY g.priority, g.expires_at NULLS LAST, g.kind = 'purchased', g.created_at, g.id
             ) AS upto,
             sum(g.remaining - g.held) OVER (PARTITION BY g.customer_id) AS supply
        FROM unnest($1) AS c (id)
        JOIN (
          SELECT i.customer, min(i.at) AS first_at, max(i.at) AS last_at, max(i.meter) AS meter,
                 max(i.project) AS project
            FROM unnest($2, $5, $6, $7) AS i (customer, at, meter, project)
           GROUP BY i.customer
        ) asked ON asked.customer = c.id
        JOIN billing_creditgrant g ON g.customer_id = c.id
       WHERE g.is_open AND g.remaining > g.held AND g.effective_at <= asked.first_at
         AND (g.expires_at IS NULL OR g.expires_at > asked.last_at)
         AND (g.meter_ids IS NULL OR asked.meter = ANY (g.meter_ids))
         AND (g.project_ids IS NULL OR asked.project = ANY (g.project_ids))
    ), asked AS (
      SELECT i.*, sum(i.amount) OVER (PARTITION BY i.customer ORDER BY i.place) AS upto,
             coalesce(s.supply, 0) AS supply
        FROM unnest($2, $3, $4, $5, $6, $7, $8,
                    $9, $10) WITH ORDINALITY
          AS i (customer, key, amount, at, meter, project, subscription, policy, booked_at, place)
        JOIN unnest($1) AS c (id) ON c.id = i.customer
        LEFT JOIN (SELECT DISTINCT l.customer_id, l.supply FROM lots l) s
          ON s.customer_id = i.customer
    ), paid AS MATERIALIZED (
      SELECT q.*,
             CASE WHEN q.covered > 0 THEN nextval('billing_ledgerentry_id_seq') END AS entry,
             count(*) FILTER (WHERE q.covered > 0)
               OVER (PARTITION BY q.customer ORDER BY q.place) AS step
        FROM (
          SELECT a.*, greatest(least(a.upto, a.supply) - (a.upto - a.amount), 0) AS covered
            FROM asked a ORDER BY a.customer, a.place
        ) q
    ), moved AS (
      UPDATE billing_creditbalance o
         SET available = o.available - d.covered, next_seq = o.next_seq + d.entries,
             last_at = greatest(o.last_at, d.last_at)
        FROM (SELECT p.customer, sum(p.covered) AS covered, max(p.step) AS entries,
                     max(p.at) FILTER (WHERE p.covered > 0) AS last_at
                FROM paid p GROUP BY p.customer) d
       WHERE o.customer_id = d.customer
      RETURNING o.customer_id, o.next_seq - d.entries AS first_seq
    ), entries AS (
      INSERT INTO billing_ledgerentry
        (id, customer_id, seq, kind, source, target, amount, occurred_at, recorded_at, booked_at,
         meter_id, project_id, subscription_id, actor, reason, request_id)
      SELECT p.entry, p.customer, m.first_seq + p.step - 1, 'spend', 'available', 'consumed',
             p.covered, p.at, clock_timestamp(), coalesce(p.booked_at, p.at), p.meter, p.project,
             p.subscription, $11, $12, $13
        FROM paid p JOIN moved m ON m.customer_id = p.customer
       WHERE p.covered > 0 ORDER BY p.entry
    ), parts AS MATERIALIZED (
      SELECT p.customer, p.entry, l.id AS grant_id,
             least(p.upto, l.upto) - greatest(p.upto - p.amount, l.upto - l.free) AS amount
        FROM paid p JOIN lots l ON l.customer_id = p.customer
         AND l.upto > p.upto - p.amount AND l.upto - l.free < p.upto
    ), lineage AS (
      INSERT INTO billing_ledgerpart (customer_id, entry_id, grant_id, amount)
      SELECT s.customer, s.entry, s.grant_id, s.amount FROM parts s
        JOIN lots l ON l.id = s.grant_id ORDER BY s.entry, l.upto
    ), grants AS (
      UPDATE billing_creditgrant g
         SET remaining = g.remaining - d.amount, is_open = g.remaining > d.amount
        FROM (SELECT s.grant_id, sum(s.amount) AS amount FROM parts s GROUP BY s.grant_id) d
       WHERE g.id = d.grant_id
    ), keys AS (
      INSERT INTO billing_ledgerkey
        (customer_id, key, door, request_hash, entry_id, covered, overage, debt, recorded_at)
      SELECT p.customer, p.key, 'spend',
             ledger_spend_hash(p.amount, p.meter, p.project, p.subscription, p.policy),
             p.entry, p.covered, p.amount - p.covered, 0, clock_timestamp()
        FROM paid p
    )
    SELECT p.place, p.entry, p.covered, p.amount - p.covered, 0::numeric, false, NULL::text
      FROM paid p
    $pay$
    USING plain, p_customers, p_keys, p_amounts, p_ats, p_meters, p_projects, p_subscriptions,
      p_policies, p_booked_ats, p_actor, p_reason, p_request_id;
  END IF;

  FOR r IN
    SELECT i.* FROM unnest(p_customers, p_keys, p_amounts, p_ats, p_meters, p_projects,
             p_subscriptions, p_policies, p_debt_limits, p_booked_ats) WITH ORDINALITY
        AS i (customer, key, amount, at, meter, project, subscription, policy, debt_limit, booked_at,
              place)
     WHERE i.customer <> ALL (plain) ORDER BY i.customer, i.place
  LOOP
    SELECT * INTO b FROM billing_creditbalance o WHERE o.customer_id = r.customer;
    done := ledger_spend_row(b, r.key, r.amount, r.at, r.meter, r.project, r.subscription, r.policy,
      r.debt_limit, r.booked_at, p_actor, p_reason, p_request_id);
    place := r.place;
    entry := done.entry;
    covered := coalesce(done.covered, 0);
    overage := coalesce(done.overage, 0);
    owed := coalesce(done.owed, 0);
    replayed := coalesce(done.replayed, false);
    refused := done.refused;
    RETURN NEXT;
  END LOOP;
END $$;

-- Reserve credits until `p_expires_at`: the parts are pinned per grant, in burn order now. Under
-- block everything must be covered; otherwise what is there is pinned and the rest is judged when
-- the hold is settled.
CREATE FUNCTION ledger_hold(p_customer bigint, p_key text, p_amount numeric, p_at timestamptz,
  p_expires_at timestamptz, p_meter bigint, p_project bigint, p_subscription bigint, p_policy text,
  p_debt_limit numeric, p_actor text, p_reason text, p_request_id text,
  OUT hold bigint, OUT entry bigint, OUT covered numeric, OUT uncovered numeric,
  OUT replayed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  b billing_creditbalance;
  k billing_ledgerkey;
  pick record;
  hash bytea := sha256(convert_to(format('hold|%s|%s|%s|%s|%s', trim_scale(p_amount), p_meter,
    p_project, p_subscription, p_policy), 'UTF8'));
BEGIN
  PERFORM ledger_check_amount(p_amount);
  b := ledger_lock(p_customer);
  k := ledger_replay(p_customer, p_key, hash);
  IF k.key IS NOT NULL THEN
    hold := k.hold_id;
    entry := k.entry_id;
    covered := k.covered;
    uncovered := k.overage;
    replayed := true;
    RETURN;
  END IF;
  IF b.due_at <= p_at THEN
    b := ledger_catch_up(p_customer, p_at, p_request_id);
  END IF;
  pick := ledger_pick(p_customer, p_amount, p_at, p_meter, p_project,
    b.swept_at IS NOT NULL AND p_at < b.swept_at);
  covered := p_amount - pick.short;
  uncovered := pick.short;
  IF uncovered > 0 AND (p_policy = 'block'
                        OR (p_policy = 'debt' AND b.debt + uncovered > p_debt_limit)) THEN
    PERFORM ledger_refuse(p_customer, p_amount, p_at, p_meter, p_project);
  END IF;
  INSERT INTO billing_hold
    (customer_id, amount, covered, state, held_at, expires_at, recorded_at, overage_policy, debt_limit,
     meter_id, project_id, subscription_id)
  VALUES (p_customer, p_amount, covered, 'open', p_at, p_expires_at, clock_timestamp(), p_policy,
          p_debt_limit, p_meter, p_project, p_subscription)
  RETURNING id INTO hold;
  IF covered > 0 THEN
    IF pick.lapsed IS NOT NULL THEN
      PERFORM ledger_reopen(p_customer, pick.grants, pick.lapsed, p_at, p_at, p_actor, p_request_id);
    END IF;
    UPDATE billing_creditgrant g SET held = g.held + lot.amount
      FROM unnest(pick.grants, pick.takes) AS lot (grant_id, amount)
     WHERE g.id = lot.grant_id;
    entry := ledger_post(p_customer, 'hold', 'available', 'held', covered, p_at, p_at, pick.grants,
      pick.takes, p_meter, p_project, p_subscription, NULL, hold, NULL, p_actor, p_reason,
      p_request_id);
  END IF;
  IF b.due_at IS NULL OR p_expires_at < b.due_at THEN
    UPDATE billing_creditbalance SET due_at = p_expires_at WHERE customer_id = p_customer;
  END IF;
  PERFORM ledger_remember(p_customer, p_key, 'hold', hash, entry, hold, covered, uncovered, 0);
  replayed := false;
END $$;

-- An open hold of this customer, or the refusal that says what became of it.
CREATE FUNCTION ledger_open_hold(p_customer bigint, p_hold bigint, p_target text) RETURNS billing_hold
LANGUAGE plpgsql AS $$
DECLARE
  h billing_hold;
BEGIN
  SELECT * INTO h FROM billing_hold WHERE id = p_hold AND customer_id = p_customer;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'customer % has no hold %', p_customer, p_hold USING ERRCODE = 'KT004';
  END IF;
  IF NOT h.is_open THEN
    RAISE EXCEPTION 'hold % is % and cannot become %', p_hold, h.state, p_target
      USING ERRCODE = 'KT003', DETAIL = jsonb_build_object('subject', 'hold ' || p_hold,
        'state', h.state, 'target', p_target)::text;
  END IF;
  RETURN h;
END $$;

-- Spend what a job really used: from the pins first, the rest of them is released; use above the
-- pins is paid from today's grants and then by the hold's overage policy.
CREATE FUNCTION ledger_settle(p_customer bigint, p_key text, p_hold bigint, p_amount numeric,
  p_at timestamptz, p_booked_at timestamptz, p_actor text, p_reason text, p_request_id text,
  OUT entry bigint, OUT covered numeric, OUT overage numeric, OUT owed numeric,
  OUT released numeric, OUT replayed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  b billing_creditbalance;
  k billing_ledgerkey;
  h billing_hold;
  from_pins numeric;
  paid record;
  done record;
  booked timestamptz := coalesce(p_booked_at, p_at);
  hash bytea := sha256(convert_to(format('settle|%s|%s', p_hold, trim_scale(p_amount)), 'UTF8'));
BEGIN
  PERFORM ledger_check_amount(p_amount);
  b := ledger_lock(p_customer);
  k := ledger_replay(p_customer, p_key, hash);
  IF k.key IS NOT NULL THEN
    entry := k.entry_id;
    covered := k.covered;
    overage := k.overage;
    owed := k.debt;
    SELECT greatest(o.covered - p_amount, 0) INTO released FROM billing_hold o WHERE o.id = p_hold;
    replayed := true;
    RETURN;
  END IF;
  IF b.due_at <= p_at THEN
    b := ledger_catch_up(p_customer, p_at, p_request_id);
  END IF;
  h := ledger_open_hold(p_customer, p_hold, 'settled');
  from_pins := least(p_amount, h.covered);
  released := h.covered - from_pins;
  done := ledger_resolve(h, 'settled', from_pins, p_at, booked, p_actor, p_reason, p_request_id);
  entry := done.settle_entry;
  covered := from_pins;
  overage := 0;
  owed := 0;
  IF p_amount > from_pins THEN
    paid := ledger_pay(b, p_amount - from_pins, p_at, booked, h.meter_id, h.project_id,
      h.subscription_id, h.overage_policy, h.debt_limit, h.id, entry, p_actor, p_reason,
      p_request_id);
    IF paid.refused THEN
      PERFORM ledger_refuse(p_customer, p_amount - from_pins, p_at, h.meter_id, h.project_id);
    END IF;
    entry := coalesce(entry, paid.entry);
    covered := covered + paid.covered;
    overage := paid.overage;
    owed := paid.owed;
  END IF;
  PERFORM ledger_remember(p_customer, p_key, 'settle', hash, entry, h.id, covered, overage, owed);
  replayed := false;
END $$;

-- Give a hold back: a failed job is a release, never a refund. What is released or lapsed already
-- stays so, without a new entry.
CREATE FUNCTION ledger_release(p_customer bigint, p_key text, p_hold bigint, p_at timestamptz,
  p_booked_at timestamptz, p_actor text, p_reason text, p_request_id text,
  OUT entry bigint, OUT released numeric, OUT replayed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  b billing_creditbalance;
  k billing_ledgerkey;
  h billing_hold;
  done record;
  hash bytea := sha256(convert_to(format('release|%s', p_hold), 'UTF8'));
BEGIN
  b := ledger_lock(p_customer);
  k := ledger_replay(p_customer, p_key, hash);
  IF k.key IS NOT NULL THEN
    entry := k.entry_id;
    released := k.covered;
    replayed := true;
    RETURN;
  END IF;
  IF b.due_at <= p_at THEN
    b := ledger_catch_up(p_customer, p_at, p_request_id);
  END IF;
  SELECT * INTO h FROM billing_hold WHERE id = p_hold AND customer_id = p_customer;
  IF h.state IN ('released', 'lapsed') THEN
    SELECT e.id INTO entry FROM billing_ledgerentry e WHERE e.hold_id = p_hold AND e.kind = 'release';
    released := h.covered;
    replayed := true;
    RETURN;
  END IF;
  h := ledger_open_hold(p_customer, p_hold, 'released');
  done := ledger_resolve(h, 'released', 0, p_at, coalesce(p_booked_at, p_at), p_actor, p_reason,
    p_request_id);
  entry := done.release_entry;
  released := h.covered;
  PERFORM ledger_remember(p_customer, p_key, 'release', hash, entry, h.id, released, 0, 0);
  replayed := false;
END $$;

-- Take back the unheld rest of a grant, or `p_amount` of it. Again is a no-op; what is used up or
-- expired is refused.
CREATE FUNCTION ledger_void(p_customer bigint, p_key text, p_grant bigint, p_amount numeric,
  p_at timestamptz, p_booked_at timestamptz, p_actor text, p_reason text, p_request_id text,
  OUT entry bigint, OUT voided numeric, OUT replayed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  b billing_creditbalance;
  k billing_ledgerkey;
  g billing_creditgrant;
  state text;
  hash bytea := sha256(convert_to(format('void|%s|%s', p_grant, trim_scale(p_amount)), 'UTF8'));
BEGIN
  IF p_amount IS NOT NULL THEN
    PERFORM ledger_check_amount(p_amount);
  END IF;
  b := ledger_lock(p_customer);
  k := ledger_replay(p_customer, p_key, hash);
  IF k.key IS NOT NULL THEN
    entry := k.entry_id;
    voided := k.covered;
    replayed := true;
    RETURN;
  END IF;
  IF b.due_at <= p_at THEN
    PERFORM ledger_catch_up(p_customer, p_at, p_request_id);
  END IF;
  SELECT * INTO g FROM billing_creditgrant WHERE id = p_grant AND customer_id = p_customer;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'customer % has no grant %', p_customer, p_grant USING ERRCODE = 'KT004';
  END IF;
  IF g.voided_at IS NOT NULL THEN
    SELECT e.id, e.amount INTO entry, voided FROM billing_ledgerentry e
     WHERE e.grant_id = p_grant AND e.kind = 'void' AND e.cause_id IS NULL ORDER BY e.id DESC LIMIT 1;
    replayed := true;
    RETURN;
  END IF;
  state := CASE WHEN g.expires_at <= p_at THEN 'expired'
                WHEN g.remaining = 0 THEN 'used up'
                WHEN g.remaining - g.held < coalesce(p_amount, 0.000001) THEN 'held' END;
  IF state IS NOT NULL THEN
    RAISE EXCEPTION 'grant % is % and cannot become void', p_grant, state
      USING ERRCODE = 'KT003', DETAIL = jsonb_build_object('subject', 'grant ' || p_grant,
        'state', state, 'target', 'void')::text;
  END IF;
  voided := coalesce(p_amount, g.remaining - g.held);
  UPDATE billing_creditgrant
     SET remaining = remaining - voided, is_open = remaining > voided,
         voided_at = CASE WHEN p_amount IS NULL THEN p_at END
   WHERE id = p_grant;
  entry := ledger_post(p_customer, 'void', 'available', 'voided', voided, p_at,
    coalesce(p_booked_at, p_at), ARRAY[p_grant], ARRAY[voided], NULL, NULL, g.subscription_id,
    p_grant, NULL, NULL, p_actor, p_reason, p_request_id);
  PERFORM ledger_remember(p_customer, p_key, 'void', hash, entry, NULL, voided, 0, 0);
  replayed := false;
END $$;

-- Give back what an entry used, all or `p_amount` of it, to the same grants in reverse order. What
-- returns to an expired or voided grant ends at once; use that was owed is no longer owed.
CREATE FUNCTION ledger_reverse(p_customer bigint, p_key text, p_entry bigint, p_amount numeric,
  p_at timestamptz, p_booked_at timestamptz, p_actor text, p_reason text, p_request_id text,
  OUT entry bigint, OUT returned numeric, OUT replayed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  b billing_creditbalance;
  k billing_ledgerkey;
  e billing_ledgerentry;
  part record;
  take numeric;
  short numeric;
  back_grants bigint[] := '{}';
  back_amounts numeric[] := '{}';
  booked timestamptz := coalesce(p_booked_at, p_at);
  hash bytea := sha256(convert_to(format('reverse|%s|%s', p_entry, trim_scale(p_amount)), 'UTF8'));
BEGIN
  IF p_amount IS NOT NULL THEN
    PERFORM ledger_check_amount(p_amount);
  END IF;
  b := ledger_lock(p_customer);
  k := ledger_replay(p_customer, p_key, hash);
  IF k.key IS NOT NULL THEN
    entry := k.entry_id;
    returned := k.covered;
    replayed := true;
    RETURN;
  END IF;
  IF b.due_at <= p_at THEN
    b := ledger_catch_up(p_customer, p_at, p_request_id);
  END IF;
  SELECT * INTO e FROM billing_ledgerentry WHERE id = p_entry AND customer_id = p_customer;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'customer % has no entry %', p_customer, p_entry USING ERRCODE = 'KT004';
  END IF;
  SELECT e.amount - coalesce(sum(r.amount), 0) INTO short FROM billing_ledgerentry r
   WHERE r.cause_id = p_entry AND r.kind = 'reverse';
  IF e.target <> 'consumed' OR short < coalesce(p_amount, 0.000001)
     OR (e.kind = 'debt' AND b.debt < coalesce(p_amount, short)) THEN
    RAISE EXCEPTION 'entry % cannot be given back: % of its % credits are left to reverse', p_entry,
        CASE WHEN e.target <> 'consumed' THEN 0 WHEN e.kind = 'debt' THEN least(short, b.debt)
             ELSE short END, e.amount
      USING ERRCODE = 'KT003', DETAIL = jsonb_build_object('subject', 'entry ' || p_entry,
        'state', CASE WHEN e.target <> 'consumed' THEN e.kind
                      WHEN e.kind = 'debt' AND short > 0 THEN 'repaid' ELSE 'given back' END,
        'target', 'given back')::text;
  END IF;
  returned := coalesce(p_amount, short);
  IF e.kind = 'debt' THEN
    entry := ledger_post(p_customer, 'reverse', 'consumed', 'debt', returned, p_at, booked,
      ARRAY[NULL]::bigint[], ARRAY[returned], e.meter_id, e.project_id, e.subscription_id, NULL,
      e.hold_id, p_entry, p_actor, p_reason, p_request_id);
  ELSE
    short := returned;
    FOR part IN
      SELECT p.grant_id, p.amount - coalesce((
               SELECT sum(rp.amount) FROM billing_ledgerentry r
                 JOIN billing_ledgerpart rp ON rp.entry_id = r.id
                WHERE r.cause_id = p_entry AND r.kind = 'reverse' AND rp.grant_id = p.grant_id
             ), 0) AS amount
        FROM billing_ledgerpart p WHERE p.entry_id = p_entry ORDER BY p.id DESC
    LOOP
      EXIT WHEN short = 0;
      take := least(short, part.amount);
      CONTINUE WHEN take = 0;
      UPDATE billing_creditgrant SET remaining = remaining + take, is_open = true
       WHERE id = part.grant_id;
      back_grants := back_grants || part.grant_id;
      back_amounts := back_amounts || take;
      short := short - take;
    END LOOP;
    entry := ledger_post(p_customer, 'reverse', 'consumed', 'available', returned, p_at, booked,
      back_grants, back_amounts, e.meter_id, e.project_id, e.subscription_id, NULL, e.hold_id,
      p_entry, p_actor, p_reason, p_request_id);
    PERFORM ledger_end_returned(p_customer, entry, back_grants, back_amounts, p_at, booked,
      p_request_id);
  END IF;
  PERFORM ledger_remember(p_customer, p_key, 'reverse', hash, entry, NULL, returned, 0, 0);
  replayed := false;
END $$;

-- Bring one customer up to `p_at`: lapsed grants expire, lapsed holds are released.
CREATE FUNCTION ledger_expire(p_customer bigint, p_at timestamptz, p_request_id text,
  OUT expired numeric, OUT released numeric)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  b billing_creditbalance := ledger_lock(p_customer);
BEGIN
  IF b.due_at <= p_at THEN
    PERFORM ledger_catch_up(p_customer, p_at, p_request_id);
  END IF;
  SELECT coalesce(sum(amount) FILTER (WHERE kind = 'expire'), 0),
         coalesce(sum(amount) FILTER (WHERE kind = 'release'), 0)
    INTO expired, released
    FROM billing_ledgerentry WHERE customer_id = p_customer AND seq >= b.next_seq;
END $$;

-- Bring up to `p_limit` customers up to `p_at`; those another transaction works on are left to the
-- next sweep. Returns how many were done.
CREATE FUNCTION ledger_sweep(p_at timestamptz, p_limit integer, p_request_id text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  due bigint;
  done integer := 0;
BEGIN
  FOR due IN
    SELECT customer_id FROM billing_creditbalance WHERE due_at <= p_at
     ORDER BY due_at, customer_id LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
  LOOP
    PERFORM ledger_catch_up(due, p_at, p_request_id);
    done := done + 1;
  END LOOP;
  RETURN done;
END $$;

-- ── Who may knock ────────────────────────────────────────────────────────────────────────────
DO $$
DECLARE
  door regprocedure;
BEGIN
  FOR door IN
    SELECT p.oid::regprocedure FROM pg_proc p
     WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'ledger\_%'
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', door);
  END LOOP;
  FOR door IN
    SELECT p.oid::regprocedure FROM pg_proc p
     WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef
       AND p.proname IN ('ledger_grant', 'ledger_spend', 'ledger_spend_many', 'ledger_hold',
                         'ledger_settle', 'ledger_release', 'ledger_void', 'ledger_reverse',
                         'ledger_expire', 'ledger_sweep')
  LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {{app_role}}', door);
  END LOOP;
END $$;
