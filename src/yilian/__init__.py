"""yilian 医链: circulate medical data and run shared business on a consortium ledger."""
