"""Workflows: graphs that users define as data, checked when they are saved and run by the engine `langgraph`."""
