"""NGINX in front of every service: its configuration, its routing table, what it runs and what it saw."""
