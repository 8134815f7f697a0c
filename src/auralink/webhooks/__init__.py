"""Webhooks: signed events from elsewhere that start runs of any definition (Standard Webhooks)."""
