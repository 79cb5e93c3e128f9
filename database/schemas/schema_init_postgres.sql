-- The state database of condvest for PostgreSQL. Generated from the migrations in src/condvest/state/migrations
-- by tools/build_schema.py (`make schema`): do not edit. For an empty database; `condvest db upgrade` goes on from it.

BEGIN;

CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

CREATE TABLE session_ledger (
    session_date DATE NOT NULL,
    state TEXT NOT NULL,
    source TEXT,
    rows INTEGER NOT NULL,
    answer_rows INTEGER NOT NULL,
    quarantined INTEGER NOT NULL,
    restated INTEGER NOT NULL,
    withdrawn INTEGER NOT NULL,
    answer_digest TEXT,
    fetched_at TIMESTAMP WITH TIME ZONE,
    reason TEXT,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (session_date),
    CONSTRAINT ck_session_ledger_state CHECK (state IN ('missing', 'pending', 'provisional', 'final', 'not_entitled')),
    CONSTRAINT ck_session_ledger_answer_digest CHECK (length(answer_digest) = 16)
);

CREATE TABLE data_ingestion_watermark (
    id BIGSERIAL NOT NULL,
    symbol TEXT COLLATE "C" NOT NULL,
    last_session DATE,
    valid_from TIMESTAMP WITH TIME ZONE NOT NULL,
    valid_to TIMESTAMP WITH TIME ZONE,
    is_current BOOLEAN NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT ck_data_ingestion_watermark_current_is_open CHECK (is_current = (valid_to IS NULL)),
    CONSTRAINT ck_data_ingestion_watermark_period CHECK (valid_to >= valid_from)
);

CREATE UNIQUE INDEX uq_data_ingestion_watermark_current ON data_ingestion_watermark (symbol) WHERE is_current;

CREATE INDEX ix_data_ingestion_watermark_symbol ON data_ingestion_watermark (symbol);

CREATE TABLE symbol_metadata (
    symbol TEXT COLLATE "C" NOT NULL,
    name TEXT,
    active BOOLEAN NOT NULL,
    type TEXT,
    market TEXT,
    primary_exchange TEXT,
    currency TEXT,
    cik TEXT,
    composite_figi TEXT,
    share_class_figi TEXT,
    list_date DATE,
    delisted_at TIMESTAMP WITH TIME ZONE,
    sic_code TEXT,
    sic_description TEXT,
    market_cap DOUBLE PRECISION,
    first_seen TIMESTAMP WITH TIME ZONE NOT NULL,
    last_seen TIMESTAMP WITH TIME ZONE NOT NULL,
    details_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (symbol)
);

CREATE TABLE batch_jobs (
    id BIGSERIAL NOT NULL,
    job TEXT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    outcome TEXT NOT NULL,
    arguments TEXT NOT NULL,
    counts TEXT NOT NULL,
    requests BIGINT NOT NULL,
    gets BIGINT NOT NULL,
    puts BIGINT NOT NULL,
    deletes BIGINT NOT NULL,
    lists BIGINT NOT NULL,
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    error TEXT,
    PRIMARY KEY (id),
    CONSTRAINT ck_batch_jobs_outcome CHECK (outcome IN ('running', 'done', 'nothing_new', 'partial', 'failed'))
);

INSERT INTO alembic_version (version_num) VALUES ('0001') RETURNING alembic_version.version_num;

-- Running upgrade 0001 -> 0002

CREATE TABLE landing_recorded (
    kind TEXT NOT NULL,
    recorded_through TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (kind)
);

UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0001';

COMMIT;
