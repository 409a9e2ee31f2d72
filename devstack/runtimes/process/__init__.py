"""Replicas as plain processes below the keeper."""
