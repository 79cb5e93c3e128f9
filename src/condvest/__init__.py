"""The batch layer of a market-data lake: daily bars of the US stock market in plain parquet files."""
