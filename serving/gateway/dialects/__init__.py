"""Interfaces that other software speaks, a module each: `routes(gateway)`, and `render_error`, its error body."""
