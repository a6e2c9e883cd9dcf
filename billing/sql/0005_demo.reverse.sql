DROP FUNCTION billing_remove_demo();
