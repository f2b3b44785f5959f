"""Stores beyond one machine: PostgreSQL with pgvector, and Milvus. Their interface: `protoclip.search.store`."""
