"""The jobs on AWS: Lambda handlers by the names of the specification, and the command of the Batch image.

`daily_ohlcv_fetcher` and `daily_meta_fetcher` reach the provider and no database, `record_session` the database and no
provider, `consolidate_bronze` the lake alone. Each reads an event, calls `condvest.app`, and answers with counts.
"""
