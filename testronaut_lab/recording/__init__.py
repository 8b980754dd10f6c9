"""From what was done in a session to a plan with goldens that replays green."""
