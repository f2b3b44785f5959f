"""Interfaces that other software speaks, a module each: `routes(gateway)`, and `render_error` for its own error body."""
