"""Statements that would read a file, write one, load code or lift a ban; and what they can be hidden in."""

from __future__ import annotations

from typing import Final

#: One a line. {f} is a file with a secret, {d} its folder, {o} a file that is not there.
ATTACKS: Final = r"""
FROM '{f}'
FROM read_text('{f}')
FROM read_blob('{f}')
FROM read_csv('{f}')
FROM read_csv_auto('{d}/*')
FROM read_parquet('{f}')
FROM parquet_scan(['{f}'])
FROM read_json('{f}')
FROM read_json_objects_auto('{f}')
FROM read_ndjson('{f}')
FROM sniff_csv('{f}')
FROM glob('{d}/*')
FROM parquet_metadata('{f}')
FROM parquet_kv_metadata('{f}')
FROM read_duckdb('{f}')
FROM "{f}"
FROM query('FROM read_text(''{f}'')')
FROM query_table('{f}')
FROM query_table(['{f}'])
FROM 'file://{f}'
FROM 'http://127.0.0.1:1/x.csv'
FROM read_csv('s3://bucket/x.csv')
FROM read_text('/proc/self/environ')
SELECT getenv('CONDVEST_FUZZ_SECRET')
COPY bronze TO '{o}'
COPY (SELECT 1) TO '{o}' (FORMAT parquet)
COPY symbols FROM '{f}'
EXPORT DATABASE '{o}'
IMPORT DATABASE '{d}'
ATTACH '{o}' AS x
ATTACH ':memory:' AS x
CREATE TABLE t AS FROM '{f}'
CREATE VIEW v AS SELECT 1
CREATE TABLE t (a INT)
INSERT INTO bronze SELECT * FROM bronze
DELETE FROM bronze
UPDATE bronze SET close = 1
DROP VIEW bronze
INSTALL httpfs
INSTALL '{f}'
LOAD '{f}'
LOAD httpfs
FORCE INSTALL httpfs FROM '{d}'
SET enable_external_access = true
RESET enable_external_access
SET lock_configuration = false
PRAGMA enable_profiling
SET profiling_output = '{o}'
PRAGMA profiling_output='{o}'
SET GLOBAL temp_directory = '{o}'
SET allowed_paths = ['{f}']
SET python_enable_replacements = true
SET autoinstall_known_extensions = true
SET log_query_path = '{o}'
CALL enable_logging(storage_path = '{o}')
FROM enable_logging(storage = 'file', storage_config = {'path': '{o}'})
FROM enable_profiling(save_location = '{o}')
CREATE SECRET s (TYPE s3)
CREATE PERSISTENT SECRET s (TYPE http)
FROM duckdb_secrets()
FROM which_secret('s3://x', 's3')
CHECKPOINT
FROM checkpoint('memory')
VACUUM
USE memory.x
EXECUTE x
PREPARE p AS FROM '{f}'
BEGIN
CREATE MACRO m() AS TABLE FROM '{f}'
SELECT content FROM read_text(getvariable('x'))
FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{f}'')'))
COMMENT ON VIEW bronze IS 'x'
FROM objects
FROM _SECRET
FROM add_parquet_key('k', 'v')
SUMMARIZE '{f}'
DESCRIBE '{f}'
FROM read_text(['{f}'])
FROM copy_database('x', 'y')
FROM arrow_scan(1, 1, 1)
FROM python_map_function((SELECT 1), 1)
FROM pandas_scan(1)
FROM create_external_resource('x', '{f}')
FROM register_external_resource_type('{f}')
ALTER VIEW bronze RENAME TO b
""".strip().splitlines()

#: One a line; {0} is the attack.
WRAPPINGS: Final = [
    *r"""
{0}
{0};
/* x */ {0}
({0})
EXPLAIN {0}
EXPLAIN ANALYZE {0}
SELECT * FROM ({0})
WITH x AS ({0}) SELECT 1
WITH x AS ({0}) FROM x
WITH x AS MATERIALIZED ({0}) SELECT * FROM x, x AS y
WITH RECURSIVE x AS ({0}) FROM x
SELECT ({0})
SELECT (SELECT content FROM ({0}) LIMIT 1)
SELECT EXISTS ({0})
SELECT 1; {0}
{0}; SELECT 1
SELECT 1 /* ; */; {0}
SELECT 1 UNION ALL BY NAME {0}
FROM symbols, LATERAL ({0})
SELECT * FROM symbols WHERE symbol IN ({0})
PIVOT ({0}) ON content
SELECT 1 WHERE 1 = 1 OR EXISTS ({0}) --
DESCRIBE {0}
SUMMARIZE {0}
SHOW ({0})
PREPARE p AS {0}
CREATE TEMP TABLE t AS {0}
EXPLAIN (FORMAT json) {0}
SELECT [x FOR x IN ({0})]
VALUES (({0}))
$${0}$$
SELECT * FROM query($${0}$$)
COPY ({0}) TO '/dev/stdout'
CALL ({0})
MERGE INTO bronze USING ({0}) x ON true WHEN MATCHED THEN DELETE
""".strip().splitlines(),
    "  \n{0}",
    "-- x\n{0}",
    "\ufeff{0}",
    "{0}\xa0",
    "\u200b{0}",
    "{0}\x00",
    "select 'a\x00'; {0}",
]
