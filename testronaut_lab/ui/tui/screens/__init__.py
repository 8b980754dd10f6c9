"""The screens that cover the dashboard: help, and an error with its hint."""
