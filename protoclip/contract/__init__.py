"""What training, export, server and client share; loads no torch."""
