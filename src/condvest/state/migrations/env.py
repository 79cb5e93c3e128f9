"""What Alembic runs for each command: on the connection that the caller brings, or as SQL text for PostgreSQL."""

from alembic import context

from condvest.state.tables import metadata

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True)
else:
    # The caller's transaction holds the writers' lock: all steps are in it, and two processes take turns.
    context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
