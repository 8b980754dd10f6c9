"""Turns what was done in a session into a plan with goldens, and replays the plan until it passes."""
